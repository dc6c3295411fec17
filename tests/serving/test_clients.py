"""Foreign V2 clients against a served workspace, unchanged."""

import asyncio

import kserve
import numpy as np
import pytest
import tritonclient.http as triton

pytestmark = pytest.mark.full

X = np.array([[1, 2, 3, 4], [1, 1, 1, 1]], np.float32)
Y = np.array([[10], [4]], np.float32)


@pytest.fixture(scope="module")
def running(risk, serving_once, tmp_path_factory):
    """One workspace for every client."""
    return serving_once(risk.workspace(tmp_path_factory.mktemp("risk")))


@pytest.fixture
def client(running):
    with triton.InferenceServerClient(running.url.removeprefix("http://")) as client:
        yield client


def test_triton_reads_health_and_metadata(client):
    """Server, model and version: live, ready, described."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("risk")
    assert client.is_model_ready("risk", "1")
    assert not client.is_model_ready("risk", "9")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "brownfield"
    metadata = client.get_model_metadata("risk", "1")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]


@pytest.mark.parametrize("binary_in", [False, True], ids=["JSON in", "binary in"])
@pytest.mark.parametrize("binary_out", [False, True], ids=["JSON out", "binary out"])
@pytest.mark.parametrize("version", ["", "1"], ids=["champion", "by version"])
def test_triton_infers(client, binary_in, binary_out, version):
    """In JSON and in binary tensors, in every mixture."""
    tensor = triton.InferInput("x", X.shape, "FP32")
    tensor.set_data_from_numpy(X, binary_data=binary_in)
    wanted = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    result = client.infer("risk", [tensor], model_version=version, outputs=wanted, request_id="a1", timeout=200_000)
    np.testing.assert_array_equal(result.as_numpy("y"), Y)
    response = result.get_response()
    assert (response["id"], response["model_version"]) == ("a1", "1")
    assert response["parameters"]["brownfield_degraded"] is False


def test_triton_infers_without_naming_outputs(client):
    """Then every output comes, in binary, as the client asks for by itself."""
    tensor = triton.InferInput("x", X.shape, "FP32")
    tensor.set_data_from_numpy(X)
    np.testing.assert_array_equal(client.infer("risk", [tensor]).as_numpy("y"), Y)


def test_triton_shows_our_refusal(client):
    """The message names field and code."""
    tensor = triton.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
    with pytest.raises(triton.InferenceServerException, match=r"x: x\.shape \(BF-TEN-004\)"):
        client.infer("risk", [tensor])


@pytest.mark.parametrize("extension", ["classification", "shared memory"])
def test_triton_is_told_what_no_output_comes_as(client, extension):
    """Else it would take scores for classes, or read what was in the shared memory before."""
    tensor = triton.InferInput("x", X.shape, "FP32")
    tensor.set_data_from_numpy(X)
    wanted = triton.InferRequestedOutput("y", class_count=1 if extension == "classification" else 0)
    if extension == "shared memory":
        wanted.set_shared_memory("region", Y.nbytes)
    with pytest.raises(triton.InferenceServerException, match=r"BF-REQ-004"):
        client.infer("risk", [tensor], outputs=[wanted])


def test_triton_unloads_and_loads(client):
    """Its unload says each time what is to happen to dependents."""
    client.unload_model("risk")
    assert [each["state"] for each in client.get_model_repository_index()] == ["UNAVAILABLE"]
    client.load_model("risk")
    assert [each["state"] for each in client.get_model_repository_index()] == ["READY"]


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_kserve_reads_health_and_infers(running, binary):
    """Its REST client with protocol v2."""

    async def run():
        async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2")) as client:
            assert await client.is_server_live(running.url)
            assert await client.is_server_ready(running.url)
            assert await client.is_model_ready(running.url, "risk")
            tensor = kserve.InferInput("x", list(X.shape), "FP32")
            tensor.set_data_from_numpy(X, binary_data=binary)
            request = kserve.InferRequest(model_name="risk", infer_inputs=[tensor], request_id="k1")
            return await client.infer(running.url, request, model_name="risk")

    response = asyncio.run(run())
    np.testing.assert_array_equal(response.outputs[0].as_numpy(), Y)
    assert response.id == "k1"
