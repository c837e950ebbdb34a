"""GGUF files for llama.cpp: written from a model, proven, and run."""
