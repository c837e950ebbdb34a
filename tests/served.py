"""Servers for tests: that of the examples, the same with texts, and some that do what is wrong."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from logprob_server import LogprobServer

Answer = tuple[int, Any]


@contextmanager
def serving(server: LogprobServer) -> Iterator[str]:
    """The URL of a server, which runs in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Watched(LogprobServer):
    """Counts its requests for log-probabilities, and those that run at once."""

    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        self.asked: list[list[int]] = []
        self.running = self.most = 0
        self.counting = threading.Lock()

    def answer(self, path, body) -> Answer:
        if path != "/v1/completions":
            return super().answer(path, body)
        with self.counting:
            self.asked.append(body["prompt"])
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self.completion(path, body)
        finally:
            with self.counting:
                self.running -= 1

    def completion(self, path, body) -> Answer:
        return super().answer(path, body)


class Changed(Watched):
    """Changes the log-probabilities of every place."""

    def __init__(self, folder, change, **options):
        super().__init__(folder, **options)
        self.change = change

    def completion(self, path, body) -> Answer:
        status, answer = super().completion(path, body)
        if status == 200:
            choice = answer["choices"][0]
            choice["prompt_logprobs"] = self.change(choice["prompt_logprobs"], body)
        return status, answer


class TextServer(LogprobServer):
    """Also writes texts, greedily, and answers messages in the chat template of its tokenizer."""

    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        self.bodies: list[dict[str, Any]] = []
        self.said: dict[str, str] = {}  # by prompt

    def answer(self, path, body) -> Answer:
        chat = path == "/v1/chat/completions"
        if not chat and path != "/v1/completions":
            return super().answer(path, body)
        self.bodies.append(body)
        prompt = body.get("prompt")
        if chat:
            prompt = self.tokenizer.apply_chat_template(
                body["messages"], add_generation_prompt=True, tokenize=False
            )
        ids = self.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        most = body["max_tokens"]
        if ids.shape[1] + most > self.longest:
            return 400, {"error": "the prompt is too long"}
        with self.alone, torch.inference_mode():
            found = self.model.generate(ids, max_new_tokens=most, do_sample=False, pad_token_id=0)[
                0, ids.shape[1] :
            ]
        text = self.tokenizer.decode(found, skip_special_tokens=True)
        self.said[prompt] = text
        choice = {"finish_reason": "length" if len(found) == most else "stop"}
        choice |= {"message": {"content": text}} if chat else {"text": text}
        return 200, {"choices": [choice]}
