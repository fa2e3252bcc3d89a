"""The only code that touches ComfyUI's internals. Differences between hosts are probed, never looked up by version."""
