"""One vector for each text: pooling and the layers after it, as sentence-transformers has them."""
