"""Calls every method of tritonclient.grpc.InferenceServerClient."""

import json
import queue

import numpy as np
import tritonclient.grpc as triton
from kit import DOUBLED, GUEST, Recorder, arguments, filled, picture_inputs, report
from tritonclient.grpc.auth import BasicAuth
from tritonclient.utils import InferenceServerException, shared_memory

PROMPT = "a red handbag"


def server_side(client, facts):
    facts["live"], facts["ready"] = client.is_server_live(), client.is_server_ready()
    facts["model_ready"] = [client.is_model_ready("double"), client.is_model_ready("nobody")]
    facts["extensions"] = list(client.get_server_metadata().extensions)
    facts["inputs"] = [one["name"] for one in client.get_model_metadata("starter", as_json=True)["inputs"]]
    facts["backend"] = client.get_model_config("double").config.backend
    client.unload_model("double")
    facts["unloaded"] = {one.name: one.state for one in client.get_model_repository_index().models}["double"]
    client.load_model("double")
    facts["trace_rate"] = list(client.update_trace_settings(settings={"trace_rate": "7"}).settings["trace_rate"].value)
    client.update_trace_settings(settings={"trace_rate": None})
    facts["default_rate"] = list(client.get_trace_settings().settings["trace_rate"].value)
    client.update_log_settings({"log_verbose_level": 1})
    facts["verbose"] = client.get_log_settings(as_json=True)["settings"]["log_verbose_level"]["uint32_param"]
    client.update_log_settings({"log_verbose_level": 0})
    plugin = BasicAuth("someone", "secret")
    client.register_plugin(plugin)
    facts["plugin"] = client.plugin() is plugin
    client.unregister_plugin()


def cuda(client):
    refused = []
    for call in (
        lambda: client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 8),
        client.get_cuda_shared_memory_status,
        client.unregister_cuda_shared_memory,
    ):
        try:
            call()
        except InferenceServerException as error:
            refused.append(error.status())
    return refused


def through_memory(client):
    handle = shared_memory.create_shared_memory_region("region", "/atelier-conformance", 64)
    try:
        shared_memory.set_shared_memory_region(handle, [DOUBLED])
        client.register_system_shared_memory("region", "/atelier-conformance", 64)
        status = client.get_system_shared_memory_status().regions["region"].byte_size
        tensor = triton.InferInput("x", [1, 4], "FP32")
        tensor.set_shared_memory("region", 16)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("region", 16, offset=32)
        result = client.infer("double", [tensor], outputs=[wanted])
        shape = list(result.get_output("y").shape)
        written = shared_memory.get_contents_as_numpy(handle, np.float32, shape, offset=32).copy()
        client.unregister_system_shared_memory("region")
    finally:
        shared_memory.destroy_shared_memory_region(handle)
    return status, written


def streamed(client):
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for name in ("a", "b"):
        client.async_stream_infer("starter", picture_inputs(triton, PROMPT, 5), request_id=name)
    client.async_stream_infer("double", filled(triton, {"x": DOUBLED}), request_id="t")
    client.async_stream_infer(
        "double", filled(triton, {"x": DOUBLED}), request_id="e", model_version="9", enable_empty_final_response=True
    )
    told, images, errors, ended = {"a": [], "b": []}, {}, [], set()
    while ended != {"a", "b", "t"} or not errors:
        result, error = answers.get(timeout=120)
        if error is not None:
            errors.append(error.message())
            continue
        response = result.get_response()
        parameters = response.parameters
        if response.id in told and "step" in parameters:
            told[response.id].append(parameters["step"].int64_param)
        if parameters["triton_final_response"].bool_param:
            ended.add(response.id)
        if result.get_output("IMAGE") is not None:
            images[response.id] = result.as_numpy("IMAGE")[0]
    client.stop_stream()
    return told, images, errors


def main():
    address, folder = arguments()
    facts = {}
    client = Recorder(triton.InferenceServerClient(address))
    server_side(client, facts)
    facts["cuda"] = cuda(client)
    towers = np.load(folder / "inputs.npz")
    graph = {"file:1/model.onnx": towers["graph"].tobytes()}
    client.load_model("guest", config=json.dumps(GUEST), files=graph)
    guest = client.infer("guest", filled(triton, {"x": DOUBLED}))
    client.unload_model("guest")
    client.load_model("chain")
    chained = client.infer("chain", filled(triton, {"x": DOUBLED}))
    client.unload_model("chain", unload_dependents=False)
    vision = client.infer("starter_clip", filled(triton, {"pixel_values": towers["pixel_values"]}))
    text = client.infer("starter_clip", filled(triton, {"input_ids": towers["input_ids"]}))
    waiting: queue.Queue = queue.Queue()
    client.async_infer("double", filled(triton, {"x": DOUBLED}), lambda result, error: waiting.put((result, error)))
    result, error = waiting.get(timeout=60)
    facts["async_error"] = str(error) if error else ""
    facts["region_bytes"], written = through_memory(client)
    wanted = [triton.InferRequestedOutput(name) for name in ("IMAGE", "IMAGE_RAW", "SEED")]
    one = client.infer("starter", picture_inputs(triton, PROMPT, 5), outputs=wanted, request_id="picture")
    told, images, facts["stream_errors"] = streamed(client)
    facts["steps"] = told
    facts["same_in_stream"] = all(image == one.as_numpy("IMAGE")[0] for image in images.values()) and len(images) == 2
    facts["seed"], facts["id"] = int(one.as_numpy("SEED")[0]), one.get_response().id
    stats = client.get_inference_statistics("double", as_json=True)["model_stats"][0]
    facts["success"] = stats["inference_stats"]["success"]["count"]
    classes = triton.InferRequestedOutput("y", class_count=1)
    best = client.infer("double", filled(triton, {"x": DOUBLED}), outputs=[classes])
    facts["best"] = best.as_numpy("y")[0][0].decode()
    client.close()
    facts["never_called"] = client.never_called()
    report(
        folder,
        facts,
        image_embeds=vision.as_numpy("image_embeds"),
        text_embeds=text.as_numpy("text_embeds"),
        doubled=result.as_numpy("y"),
        written=written,
        guest=guest.as_numpy("y"),
        chained=chained.as_numpy("y"),
        raw=one.as_numpy("IMAGE_RAW"),
        png=np.frombuffer(one.as_numpy("IMAGE")[0], np.uint8),
    )


main()
