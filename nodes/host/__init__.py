"""The only place that knows ComfyUI's insides. Differences between hosts are probed, never looked up by version."""
