"""ExecuTorch: its files, made by transformers' exporter for XNNPACK, and run."""
