"""llama-cpp-python's own server answers prompts; of log-probabilities of prompts it has none."""

import json
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from conftest import make_text
from gguf import GGMLQuantizationType as Kind
from test_gguf_files import source_of

from limbeck.deploy.gguf_files.write import write_gguf
from limbeck.errors import ServerError
from limbeck.run.generate_answers import generate_answers
from limbeck.teacher.servers.client import ServerClient
from limbeck.teacher.servers.probe import probe_server
from limbeck.teacher.servers.settings import ServerSettings

START = 120.0  # seconds


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The tokenizer of a decoder, and the URL where llama.cpp serves it."""
    folder = tmp_path_factory.mktemp("gguf")
    source = source_of(folder, "llama", max_position_embeddings=256)
    write_gguf(source, Kind.F16, folder / "model.gguf")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "model.gguf")]
    command += ["--port", str(port), "--n_ctx", "256", "--model_alias", "tiny"]
    command += ["--chat_format", "chatml", "--n_threads", "1"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as run,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/v1/models", run)
            yield source.tokenizer, url
        finally:
            run.terminate()


def _wait_for(address, run):
    began = time.monotonic()
    while time.monotonic() - began < START and run.poll() is None:
        try:
            with urlopen(address):
                return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"the server did not start ({run.poll()})")


@pytest.mark.parametrize("chat", [False, True])
def test_prompts_are_answered(served, tmp_path, chat):
    _, url = served
    texts = [" ".join(text.split()[:3]) for text in make_text(6, seed=2)]
    rows = "".join(json.dumps({"prompt": text}) + "\n" for text in texts)
    (tmp_path / "asked.train.jsonl").write_text(rows, encoding="utf-8")
    options = {"prompts": str(tmp_path / "asked"), "max_new_tokens": 8, "temperature": 0.0}
    settings = ServerSettings(url=url, concurrency=2)
    found = generate_answers(settings, tmp_path / "out", chat_template=chat, **options)
    lines = (tmp_path / "out.train.jsonl").read_text(encoding="utf-8").splitlines()
    assert found == {"out.train.jsonl": len(lines)} and len(lines) > 3
    assert {json.loads(line)["prompt"] for line in lines} <= set(texts)
    origin = json.loads((tmp_path / "out.origin.json").read_text(encoding="utf-8"))
    assert origin["model"] == "tiny"
    assert origin["asked"] == ("chat completions" if chat else "completions")


def test_it_is_no_teacher_for_logits(served):
    tokenizer, url = served
    texts = [tokenizer(make_text(1)[0])["input_ids"][:20]]
    told = r"vLLM gives them.*llama-server"
    with ServerClient(ServerSettings(url=url, max_retries=0)) as client:  # noqa: SIM117
        with pytest.raises(ServerError, match=told):
            probe_server(client, tokenizer, texts, top_k=5, longest=30)
