"""The figures of ``latentcraft bench`` as lines of text."""

from typing import Any

from latentcraft.model.train.sizes import SHARDS


def table(report: dict[str, Any]) -> str:
    """Return the report as lines of name and figures."""
    machine, rows = report["machine"], []
    rows.append(("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"))
    rows.append(("software", f"torch {machine['torch']} on {machine['device']}, Python {machine['python']}"))
    peaks = report["matmul"]
    rows.append(("matrix product", f"{peaks['fp32_gflops']:g} GFLOP/s fp32, {peaks['bf16_gflops']:g} GFLOP/s bf16"))
    reference = report["reference"]
    height, width = reference["frame_size"]
    rows.append(("reference world", f"{reference['frames_per_second']:g} frames/s, {width}x{height}, one core"))
    for key in report:
        if key == "dream" or key.startswith("dream_"):
            rows += dream_rows(report[key])
    if "training" in report:
        rows.append(("training", training_row(report["training"])))
    memory = [(name, report[name].get("peak_memory_mb")) for name in report if name != "machine"]
    rows.append(("peak memory", ", ".join(f"{mb:g} MB after {name}" for name, mb in memory if mb) or "unknown"))
    return "\n".join(f"{name:<18}{figures}" for name, figures in rows)


def dream_rows(dream: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the dream's figures in one number format: a line for each number of steps, one for a batch."""
    if "not_available" in dream:
        return [("dream", f"not available: {dream['not_available']}")]
    rows = []
    for name, figures in dream.items():
        if name.startswith("steps_"):
            rows.append((
                f"dream, {name[6:]} steps".replace(" 1 steps", " 1 step"),
                f"{figures['frames_per_second']:g} frames/s; a chunk of {dream['chunk']} frames takes "
                f"{figures['chunk_ms_median']:g} ms (p95 {figures['chunk_ms_p95']:g} ms), {dream['precision']}"
                f"{share(figures)}",
            ))  # fmt: skip
        elif name.startswith("batch_"):
            rows.append((
                f"{name[6:]} dreams",
                f"{figures['frames_per_second']:g} frames/s in all at {figures['steps']} steps, "
                f"{figures['times_one_world']:g} times one world's (goal 2.5), {dream['precision']}{share(figures)}",
            ))  # fmt: skip
    return rows


def share(figures: dict[str, Any]) -> str:
    """Return how much of the matrix peak that is."""
    if "peak_share" not in figures:
        return ""
    work = f"{figures['frame_gflops']:g} GFLOP a frame, " if "frame_gflops" in figures else ""
    return f"; {work}{figures['peak_share']:.0%} of the matrix peak"


def sizes_table(counted: dict[str, Any]) -> str:
    """Return what presets cost, a line each."""
    head = ("preset", "transformer", "GFLOP/frame", "of that DiT", "GFLOP/step", "frames/step", "training",
            f"each of {SHARDS}", "play", "KV cache")  # fmt: skip
    rows = [head]
    for preset, size in counted.items():
        rows.append((
            preset, f"{size['parameters'] / 1e6:.1f}M", f"{size['dream_flops'] / 1e9:.2f}",
            f"{size['transformer_flops'] / 1e9:.2f}", f"{size['train_flops'] / 1e9:,.0f}", f"{size['train_frames']}",
            f"{size['train_bytes'] / 1e6:,.0f} MB", f"{size['shard_bytes'] / 1e6:,.0f} MB",
            f"{size['play_bytes'] / 1e6:,.0f} MB", f"{size['cache_bytes'] / 1e6:.1f} MB",
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    notes = (
        "A dreamed frame at 4 steps and full context, all nets; an ordinary training step of the transformer; training "
        f"without activations, alone and in each of {SHARDS} processes that shard; play of one world. bf16."
    )
    return "\n".join([*lines, notes])


def training_row(figures: dict[str, Any]) -> str:
    """Return the training's figures in one line, with all that makes them comparable."""
    if "not_available" in figures:
        return f"not available: {figures['not_available']}"
    return (
        f"{figures['frames_per_second']:g} frames/s ({figures['noised_frames_per_second']:g} noised); a step takes "
        f"{figures['step_seconds']:g} s, {figures['parameters'] / 1e6:.0f}M parameters, {figures['precision']}, "
        f"{'compiled' if figures['compiled'] else 'eager'}, "
        f"{'with' if figures['bootstrap_steps'] else 'without'} bootstrap steps{share(figures)}"
        f"; {figures['loading_share']:.2%} of a step is loading of clips"
    )
