"""Calls every method of tritonclient.grpc.aio.InferenceServerClient."""

import asyncio
import json

import numpy as np
import tritonclient.grpc.aio as triton
from kit import DOUBLED, GUEST, Recorder, arguments, filled, picture_inputs, report
from tritonclient.grpc.auth import BasicAuth
from tritonclient.utils import InferenceServerException, shared_memory

PROMPT = "a red handbag"


async def server_side(client, facts):
    facts["live"], facts["ready"] = await client.is_server_live(), await client.is_server_ready()
    facts["model_ready"] = [await client.is_model_ready("double"), await client.is_model_ready("nobody")]
    facts["extensions"] = list((await client.get_server_metadata()).extensions)
    facts["inputs"] = [one["name"] for one in (await client.get_model_metadata("starter", as_json=True))["inputs"]]
    facts["backend"] = (await client.get_model_config("double")).config.backend
    await client.unload_model("double")
    facts["unloaded"] = {one.name: one.state for one in (await client.get_model_repository_index()).models}["double"]
    await client.load_model("double")
    traced = await client.update_trace_settings(settings={"trace_rate": "7"})
    facts["trace_rate"] = list(traced.settings["trace_rate"].value)
    await client.update_trace_settings(settings={"trace_rate": None})
    facts["default_rate"] = list((await client.get_trace_settings()).settings["trace_rate"].value)
    await client.update_log_settings({"log_verbose_level": 1})
    facts["verbose"] = (await client.get_log_settings(as_json=True))["settings"]["log_verbose_level"]["uint32_param"]
    await client.update_log_settings({"log_verbose_level": 0})
    plugin = BasicAuth("someone", "secret")
    client.register_plugin(plugin)
    facts["plugin"] = client.plugin() is plugin
    client.unregister_plugin()


async def cuda(client):
    refused = []
    for call in (
        client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 8),
        client.get_cuda_shared_memory_status(),
        client.unregister_cuda_shared_memory(),
    ):
        try:
            await call
        except InferenceServerException as error:
            refused.append(error.status())
    return refused


async def through_memory(client):
    handle = shared_memory.create_shared_memory_region("region", "/atelier-conformance-aio", 64)
    try:
        shared_memory.set_shared_memory_region(handle, [DOUBLED])
        await client.register_system_shared_memory("region", "/atelier-conformance-aio", 64)
        status = (await client.get_system_shared_memory_status()).regions["region"].byte_size
        tensor = triton.InferInput("x", [1, 4], "FP32")
        tensor.set_shared_memory("region", 16)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("region", 16, offset=32)
        result = await client.infer("double", [tensor], outputs=[wanted])
        shape = list(result.get_output("y").shape)
        written = shared_memory.get_contents_as_numpy(handle, np.float32, shape, offset=32).copy()
        await client.unregister_system_shared_memory("region")
    finally:
        shared_memory.destroy_shared_memory_region(handle)
    return status, written


async def streamed(client):
    async def requests():
        for name in ("a", "b"):
            inputs = picture_inputs(triton, PROMPT, 5)
            yield {"model_name": "starter", "inputs": inputs, "request_id": name}
        yield {"model_name": "double", "inputs": filled(triton, {"x": DOUBLED}), "request_id": "t"}
        yield {"model_name": "double", "inputs": filled(triton, {"x": DOUBLED}), "model_version": "9"}

    told, images, errors = {"a": [], "b": []}, {}, []
    async for result, error in client.stream_infer(requests()):
        if error is not None:
            errors.append(error.message())
            continue
        response = result.get_response()
        if response.id in told and "step" in response.parameters:
            told[response.id].append(response.parameters["step"].int64_param)
        if result.get_output("IMAGE") is not None:
            images[response.id] = result.as_numpy("IMAGE")[0]
    return told, images, errors


async def main():
    address, folder = arguments()
    facts = {}
    client = Recorder(triton.InferenceServerClient(address))
    await server_side(client, facts)
    facts["cuda"] = await cuda(client)
    towers = np.load(folder / "inputs.npz")
    graph = {"file:1/model.onnx": towers["graph"].tobytes()}
    await client.load_model("guest", config=json.dumps(GUEST), files=graph)
    guest = await client.infer("guest", filled(triton, {"x": DOUBLED}))
    await client.unload_model("guest")
    await client.load_model("chain")
    chained = await client.infer("chain", filled(triton, {"x": DOUBLED}))
    await client.unload_model("chain", unload_dependents=False)
    vision = await client.infer("starter_clip", filled(triton, {"pixel_values": towers["pixel_values"]}))
    text = await client.infer("starter_clip", filled(triton, {"input_ids": towers["input_ids"]}))
    many = await asyncio.gather(*(client.infer("double", filled(triton, {"x": DOUBLED})) for _ in range(20)))
    facts["async_error"] = ""
    facts["region_bytes"], written = await through_memory(client)
    wanted = [triton.InferRequestedOutput(name) for name in ("IMAGE", "IMAGE_RAW", "SEED")]
    one = await client.infer("starter", picture_inputs(triton, PROMPT, 5), outputs=wanted, request_id="picture")
    told, images, facts["stream_errors"] = await streamed(client)
    facts["steps"] = told
    facts["same_in_stream"] = all(image == one.as_numpy("IMAGE")[0] for image in images.values()) and len(images) == 2
    facts["seed"], facts["id"] = int(one.as_numpy("SEED")[0]), one.get_response().id
    stats = (await client.get_inference_statistics("double", as_json=True))["model_stats"][0]
    facts["success"] = stats["inference_stats"]["success"]["count"]
    classes = triton.InferRequestedOutput("y", class_count=1)
    best = await client.infer("double", filled(triton, {"x": DOUBLED}), outputs=[classes])
    facts["best"] = best.as_numpy("y")[0][0].decode()
    await client.close()
    facts["never_called"] = client.never_called()
    report(
        folder,
        facts,
        image_embeds=vision.as_numpy("image_embeds"),
        text_embeds=text.as_numpy("text_embeds"),
        doubled=many[-1].as_numpy("y"),
        written=written,
        guest=guest.as_numpy("y"),
        chained=chained.as_numpy("y"),
        raw=one.as_numpy("IMAGE_RAW"),
        png=np.frombuffer(one.as_numpy("IMAGE")[0], np.uint8),
    )


asyncio.run(main())
