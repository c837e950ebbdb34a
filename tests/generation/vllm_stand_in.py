"""Serves a transformers decoder as `vllm serve` does, as far as limbeck asks it.

    python vllm_stand_in.py serve MODEL --host 127.0.0.1 --port 8000 ...

STAND_IN in the environment may name what it does wrong.
"""

import argparse
import os
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

sys.path.append(str(Path(__file__).parents[2] / "examples"))

from logprob_server import Handler

WRONG = {
    "ignores": "takes no weights, without a word",
    "refuses": "knows no collective RPC",
    "text": "gives no token ids",
    "short": "gives fewer log-probabilities than tokens",
    "ends": "ends before it serves",
    "dies": "ends at the second text",
}


class Server(ThreadingHTTPServer):
    """A decoder that takes weights."""

    def __init__(self, model, *, host, port, name, longest, wrong=""):
        super().__init__((host, port), Handler)
        self.name, self.longest, self.wrong, self.alone = name, longest, wrong, threading.Lock()
        self.model = AutoModelForCausalLM.from_pretrained(model).eval()
        self.loaded, self.texts = [], 0

    def answer(self, path, body):
        """The status and the JSON for a request."""
        if path == "/health":
            return 200, {}
        if path == "/v1/models":
            return 200, {"data": [{"id": self.name, "max_model_len": self.longest}]}
        if path == "/reset_prefix_cache":
            return 200, {"success": True}
        if path == "/collective_rpc" and self.wrong != "refuses":
            assert body["method"] == "reload_weights"
            self.loaded.append(body["kwargs"]["weights_path"])
            if self.wrong != "ignores":
                loaded = AutoModelForCausalLM.from_pretrained(self.loaded[-1])
                self.model.load_state_dict(loaded.state_dict())
            return 200, {"results": [None]}
        if path != "/v1/completions":
            return 404, {"error": "Not Found"}
        if len(body["prompt"]) + body["max_tokens"] > self.longest:
            return 400, {"error": "too long"}
        with self.alone:
            self.texts += 1
            if self.wrong == "dies" and self.texts > 1:
                print("out of memory", flush=True)
                os._exit(3)
            ids, logs = self.generate(body)
        choice = {
            "token_ids": ids,
            "logprobs": {"token_logprobs": logs[self.wrong == "short" :]},
            "finish_reason": "stop" if ids[-1] in body["stop_token_ids"] else "length",
        }
        if self.wrong == "text":
            del choice["token_ids"]
        return 200, {"choices": [choice]}

    @torch.inference_mode()
    def generate(self, body):
        """Token by token, each drawn from the softmax of the biased logits over the temperature."""
        assert (body["top_p"], body["top_k"], body["min_p"]) == (1.0, 0, 0.0)
        assert body["repetition_penalty"] == 1.0 and body["return_token_ids"]
        assert body["ignore_eos"] and body["skip_special_tokens"] is False
        chance = torch.Generator().manual_seed(body["seed"])
        ids, logs = list(body["prompt"]), []
        while len(logs) < body["max_tokens"]:
            logits = self.model(torch.tensor([ids])).logits[0, -1]
            biased = logits.clone()
            for token, bias in body["logit_bias"].items():
                biased[int(token)] += bias
            if body["temperature"]:
                chances = (biased / body["temperature"]).softmax(-1)
                token = int(torch.multinomial(chances, 1, generator=chance))
            else:
                token = int(biased.argmax())
            ids.append(token)
            logs.append(float(logits.log_softmax(-1)[token]))
            if token in body["stop_token_ids"]:
                break
        return ids[len(body["prompt"]) :], logs


def main():
    """Read the arguments that limbeck gives to vLLM, and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--gpu-memory-utilization", type=float, required=True)
    parser.add_argument("--generation-config", choices=["vllm"], required=True)
    parser.add_argument("--enforce-eager", action="store_true")
    given = parser.parse_args()
    wrong = os.environ.get("STAND_IN", "")
    if wrong == "ends":
        sys.exit("No module named torchvision")
    assert os.environ["VLLM_SERVER_DEV_MODE"] == "1"
    server = Server(
        given.model,
        host=given.host,
        port=given.port,
        name=given.served_model_name,
        longest=given.max_model_len,
        wrong=wrong,
    )
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
