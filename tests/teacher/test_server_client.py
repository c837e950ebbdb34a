"""Requests to a server: repeated where that helps, refused at once where it does not."""

import gzip
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from served import serving

from limbeck.errors import ServerError
from limbeck.teacher.servers import client as clients
from limbeck.teacher.servers.client import RequestRefusedError, ServerClient, served_model
from limbeck.teacher.servers.settings import ServerSettings, settings_problems, with_server


class Scripted(ThreadingHTTPServer):
    """Gives prepared answers, (status, headers, content), one after another, and the last again."""

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.seen, self.lock = list(answers), [], threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers)))
            answers = self.server.answers
            status, headers, content = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_):
        pass


def said(status=200, content=b"{}", **headers):
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, content


def test_a_busy_server_is_asked_again_after_growing_pauses(monkeypatch):
    waited = []
    answers = [said(429), said(503), said(500), said(502), said(content=b'{"a": 1}')]
    with serving(Scripted(*answers)) as url, ServerClient(ServerSettings(url=url)) as client:
        monkeypatch.setattr(client._closing, "wait", waited.append)
        assert client.post("/x", {}) == {"a": 1}
    for number, pause in enumerate(waited):
        longest = 0.5 * 2**number
        assert longest / 2 <= pause <= longest
    assert len(waited) == 4


def test_retry_after_is_honoured(monkeypatch):
    waited = []
    dated = "Wed, 01 Jan 2020 00:00:00 GMT"  # which has passed
    answers = [said(429, retry_after="7"), said(503, retry_after=dated), said()]
    with serving(Scripted(*answers)) as url, ServerClient(ServerSettings(url=url)) as client:
        monkeypatch.setattr(client._closing, "wait", waited.append)
        client.get("/x")
    assert 7.25 <= waited[0] <= 7.5 and waited[1] <= 1


def test_a_server_that_stays_busy_is_given_up(monkeypatch):
    server = Scripted(said(503, b"loading"))
    settings = {"max_retries": 2}
    with serving(server) as url, ServerClient(ServerSettings(url=url, **settings)) as client:
        monkeypatch.setattr(client._closing, "wait", lambda _: False)
        with pytest.raises(ServerError, match=r"answers 503 \(loading\), asked 3 times"):
            client.post("/x", {})
    assert len(server.seen) == 3


def test_nobody_listens(monkeypatch):
    settings = ServerSettings(url="http://127.0.0.1:9", max_retries=1)
    with ServerClient(settings) as client:
        monkeypatch.setattr(client._closing, "wait", lambda _: False)
        with pytest.raises(ServerError, match="cannot be reached .*asked 2 times; see whether"):
            client.get("/v1/models")


def test_a_slow_server(monkeypatch):
    server, asked = Scripted(said()), threading.Event()
    server.lock.acquire()  # nothing is answered
    settings = ServerSettings(url=f"http://127.0.0.1:{server.server_port}", timeout=0.2)
    with serving(server), ServerClient(settings) as client:
        asked.set()
        with pytest.raises(ServerError, match="gave no whole answer in 0.2 seconds, asked once"):
            client.get("/x", retries=0)
        server.lock.release()


class Dripping(Handler):
    """Sends a byte of its answer in each 0.05 seconds."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        with suppress(OSError):  # the client has closed the connection
            for _ in range(100):
                self.wfile.write(b" ")
                time.sleep(0.05)


def test_the_timeout_is_that_of_a_whole_answer():
    server = Scripted(said())
    server.RequestHandlerClass = Dripping
    began = time.monotonic()
    with (
        serving(server) as url,
        ServerClient(ServerSettings(url=url, timeout=0.3)) as client,
        pytest.raises(ServerError, match="gave no whole answer in 0.3 seconds"),
    ):
        client.get("/x", retries=0)
    assert time.monotonic() - began < 3  # of 5


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (said(400, b'{"error": "too  long"}'), r'answers 400 \(\{"error": "too long"\}\)'),
        (said(401, b"no"), "set `api_key_env`"),
        (said(404), "answers 404"),
        (said(307, location="https://b/x"), "it points to https://b/x: give that address"),
    ],
)
def test_a_refusal_is_not_repeated(answer, message):
    server = Scripted(answer)
    with serving(server) as url, ServerClient(ServerSettings(url=url)) as client:
        with pytest.raises(RequestRefusedError, match=message) as refused:
            client.post("/x", {})
        assert refused.value.status == answer[0]
    assert len(server.seen) == 1


def test_an_answer_that_cannot_be_unpacked_is_asked_again(monkeypatch):
    broken = said(content=b"no gzip", content_encoding="gzip")
    with serving(Scripted(broken, said())) as url, ServerClient(ServerSettings(url=url)) as client:
        monkeypatch.setattr(client._closing, "wait", lambda _: False)
        with pytest.raises(ServerError, match="cannot be unpacked .*asked once"):
            client.get("/x", retries=0)
        assert client.get("/x") == {}


def test_an_answer_that_is_packed():
    packed = said(content=gzip.compress(b'{"a": 1}'), content_encoding="gzip")
    with serving(Scripted(packed)) as url, ServerClient(ServerSettings(url=url)) as client:
        assert client.get("/x") == {"a": 1}


def test_what_is_no_json():
    with (
        serving(Scripted(said(content=b"<html>"))) as url,
        ServerClient(ServerSettings(url=url)) as client,
        pytest.raises(ServerError, match="answers no JSON .*OpenAI-compatible"),
    ):
        client.get("/x")


def test_an_answer_that_is_broken_off_is_asked_again_once_others_were_whole(monkeypatch):
    answers = [said(), said(content=b'{"choices": [{"te'), said(content=b'{"a": 1}')]
    server = Scripted(*answers)
    with serving(server) as url, ServerClient(ServerSettings(url=url, max_retries=2)) as client:
        monkeypatch.setattr(client._closing, "wait", lambda _: False)
        assert client.post("/x", {}) == {} and client.post("/x", {}) == {"a": 1}
        server.answers[:] = [said(content=b"<html>")]
        with pytest.raises(ServerError, match=r"not whole: no JSON \(<html>\), asked 3 times"):
            client.post("/x", {})
    assert len(server.seen) == 3 + 3


def test_it_is_told_now_and_then_that_requests_are_repeated(monkeypatch):
    told, times = [], iter([100.0, 110.0, 131.0, 200.0])
    server = Scripted(said(503, b"loading"))
    with serving(server) as url:
        settings = ServerSettings(url=url, max_retries=4)
        with ServerClient(settings, tell=told.append) as client:
            monkeypatch.setattr(client._closing, "wait", lambda _: False)
            monkeypatch.setattr(
                clients.ServerClient, "_response", lambda *_: httpx2.Response(503, text="loading")
            )
            monkeypatch.setattr(clients.time, "monotonic", lambda: next(times))
            with pytest.raises(ServerError, match="asked 5 times"):
                client.get("/x")
    assert [line.removeprefix(url) for line in told] == [
        f"/x answers 503 (loading); it is asked again ({n} of 4 times)" for n in (1, 3, 4)
    ]


def test_a_request_that_waits_for_an_answer_ends_with_its_client():
    """However long its timeout is; also where its connection was there before."""
    server = Scripted(said())
    with serving(server) as url:
        with ServerClient(ServerSettings(url=url, timeout=300, concurrency=2)) as client:
            client.get("/x")
            server.lock.acquire()  # nothing is answered
            futures = [client.threads.submit(client.get, "/x") for _ in range(2)]
            time.sleep(0.3)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        server.lock.release()
        for future in futures:
            with pytest.raises(ServerError, match="were stopped"):
                future.result()


def test_waiting_requests_end_with_their_client(monkeypatch):
    monkeypatch.setattr(clients, "_FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(clients, "_LONGEST_PAUSE", 1000.0)
    server = Scripted(said(503))
    with serving(server) as url:
        with ServerClient(ServerSettings(url=url)) as client:
            future = client.threads.submit(client.get, "/x")
            while not server.seen:
                pass
        with pytest.raises(ServerError, match="were stopped"):
            future.result()


def test_the_key_is_that_of_the_variable(monkeypatch):
    server = Scripted(said())
    with serving(server) as url:
        settings = ServerSettings(url=url, api_key_env="LIMBECK_TEST_KEY")
        monkeypatch.delenv("LIMBECK_TEST_KEY", raising=False)
        with pytest.raises(ServerError, match="LIMBECK_TEST_KEY .* is not set"):
            ServerClient(settings)
        monkeypatch.setenv("LIMBECK_TEST_KEY", "secret-7")
        with ServerClient(settings) as client:
            client.get("/x")
    assert server.seen[0][1]["Authorization"] == "Bearer secret-7"
    assert "secret-7" not in repr(settings)


@pytest.mark.parametrize("key", ["secret-7\nsecond", "secret-7\x07", "ключ-secret-7"])
def test_what_is_no_key_is_not_shown(monkeypatch, key):
    monkeypatch.setenv("LIMBECK_TEST_KEY", key)
    settings = ServerSettings(url="http://127.0.0.1:9", api_key_env="LIMBECK_TEST_KEY")
    with pytest.raises(ServerError, match="LIMBECK_TEST_KEY .*nothing else") as found:
        ServerClient(settings)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("foo://127.0.0.1:9", "cannot be asked: .*NO_PROXY name the server"),
        ("http://127.0.0.1:9", "cannot be reached .*NO_PROXY name server.invalid where"),
    ],
)
def test_proxies_of_the_environment(monkeypatch, proxy, message):
    monkeypatch.setenv("all_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    settings = ServerSettings(url="http://server.invalid:8000")
    with pytest.raises(ServerError, match=message), ServerClient(settings) as client:
        client.get("/x", retries=0)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ({"url": "localhost:8000"}, "give the server's address"),
        ({"url": "http://"}, "give the server's address"),
        ({"url": "http://host/v1?key=secret-7"}, "holds a password or a key"),
        ({"url": "me:secret-7@host"}, "holds a password or a key"),
        ({"url": "http://a host"}, "with spaces or line breaks"),
        ({"url": "http://host\n"}, "with spaces or line breaks"),
        ({"url": "http://host:port"}, "is no URL"),
        ({"url": "http://me:secret-7@host"}, "holds a password or a key"),
        ({"url": "http://host", "api_key_env": "sk-secret-7"}, "never the key itself"),
    ],
)
def test_settings_that_cannot_be(field, given):
    [(_, message)] = settings_problems(ServerSettings(**field))
    assert given in message and "secret" not in message
    with pytest.raises(ServerError, match="server."):
        ServerClient(ServerSettings(**field))


def test_addresses_with_and_without_v1():
    for end in ("", "/", "/v1", "/v1/"):
        assert ServerSettings(url=f"http://host:1{end}").base == "http://host:1"


def test_a_server_is_laid_over_a_recipe():
    url = "http://b"
    assert with_server({"teacher": "m"}, url=None, top_k=5) == {"teacher": "m"}
    assert with_server({}, url=url, top_k=None) == {}
    found = with_server({"teacher": "m"}, url=url, top_k=None)
    assert found == {"teacher": {"model": "m", "server": {"url": url}}}
    own = {"teacher": {"model": "m", "server": {"url": "http://a", "concurrency": 2}}}
    found = with_server(own, url=url, top_k=5)
    assert found["teacher"]["server"] == {"url": url, "concurrency": 2, "top_k": 5}
    assert with_server({"teacher": {"server": "http://a"}}, url=None, top_k=3)["teacher"] == {
        "server": {"url": "http://a", "top_k": 3}
    }


@pytest.mark.parametrize(
    ("models", "name", "message"),
    [
        ([], None, "lists no models"),
        (None, None, "lists no models"),
        (["a", "b"], None, "has 2 models .'a', 'b'.; say which"),
        (["a", "b"], "c", "has no model 'c'; it has 'a', 'b'"),
        (["a", "b"], "b", None),
        (["a"], None, None),
    ],
)
def test_which_model(models, name, message):
    listed = None if models is None else [{"id": model} for model in models]
    server = Scripted(said(content=json.dumps({"data": listed}).encode()))
    with serving(server) as url, ServerClient(ServerSettings(url=url, model=name)) as client:
        if message is None:
            assert served_model(client)["id"] == client.model == models[-1]
            return
        with pytest.raises(ServerError, match=message):
            served_model(client)
