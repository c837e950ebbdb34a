"""Serve the log-probabilities that a transformers decoder gives prompts, in the form of vLLM.

    python examples/logprob_server.py MODEL --port 8000

For a teacher on a machine where vLLM does not run; it reads one text at a time.
"""

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class LogprobServer(ThreadingHTTPServer):
    """A decoder behind /v1/models, /v1/completions and /tokenize."""

    def __init__(self, folder, *, port=0, name="model", max_logprobs=1000):
        """Load the decoder; port 0 takes any that is free."""
        super().__init__(("127.0.0.1", port), Handler)
        self.name, self.max_logprobs, self.alone = name, max_logprobs, threading.Lock()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(folder).to(device).eval()
        self.longest = self.model.config.max_position_embeddings

    def answer(self, path, body):
        """The status and the JSON for a request."""
        if path == "/v1/models":
            return 200, {"data": [{"id": self.name, "max_model_len": self.longest}]}
        if body.get("model") != self.name:
            return 404, {"error": f"the model {body.get('model')!r} does not exist"}
        if path == "/tokenize":
            return 200, {
                "tokens": self.tokenizer(body["prompt"], add_special_tokens=False).input_ids
            }
        ids, top = body.get("prompt"), body.get("prompt_logprobs") or 0
        if (
            path != "/v1/completions"
            or not isinstance(ids, list)
            or not 1 <= top <= self.max_logprobs
        ):
            return 400, {
                "error": f"give token ids, and a prompt_logprobs of 1 to {self.max_logprobs}"
            }
        if len(ids) >= self.longest:
            return 400, {"error": f"{len(ids)} tokens and one more exceed {self.longest}"}
        with self.alone:
            places = [None, *self.log_probabilities(ids, top)]
        return 200, {"choices": [{"index": 0, "text": "", "prompt_logprobs": places}]}

    @torch.inference_mode()
    def log_probabilities(self, ids, top):
        """For each token but the first: the most likely tokens in its place, and itself."""
        read = torch.tensor([ids], device=self.model.device)
        logs = self.model(read).logits[0, :-1].float().log_softmax(-1)
        best, tokens = logs.topk(top)
        own = logs.gather(-1, read[0, 1:, None])
        table = (
            torch.cat([read[0, 1:, None], tokens], -1).tolist(),
            torch.cat([own, best], -1).tolist(),
        )
        for some, their_logs in zip(*table, strict=True):
            found = dict(zip(some, their_logs, strict=True))
            yield {
                token: {"logprob": log, "decoded_token": self.tokenizer.decode([token])}
                for token, log in found.items()
            }


class Handler(BaseHTTPRequestHandler):
    """JSON in and out; connections stay open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer a request without a body."""
        self.reply({})

    def do_POST(self):
        """Answer a request."""
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, body):
        """Send what the server answers."""
        status, answer = self.server.answer(self.path, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Print nothing for each request."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a transformers folder or hub name")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    LogprobServer(given.model, port=given.port, name=given.model).serve_forever()
