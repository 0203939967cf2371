"""Model repositories whose models only pretend."""

from pathlib import Path


def write_echo_model(repository: Path, name: str = "echo", *, role: str = "diffusion", **parameters: object) -> Path:
    """Writes a model of the echo backend into a model repository.

    Args:
        repository: The folder of models; it is made when missing.
        name: The model's name.
        role: What the pipeline uses it for: diffusion, clip or brand.
        parameters: See atelier_server.backends.echo, such as step_seconds=0.01.

    Returns:
        The model's folder.
    """
    folder = repository / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    values = {"role": role} | {key: str(value) for key, value in parameters.items()}
    entries = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items()]
    (folder / "config.pbtxt").write_text("\n".join(['backend: "echo"', *entries, ""]))
    return folder
