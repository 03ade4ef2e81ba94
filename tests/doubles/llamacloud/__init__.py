"""A double of LlamaCloud's API v2, checked by driving it with LlamaCloud's own client."""
