"""OpenVINO: its files, made by transformers' exporter and NNCF, and run."""
