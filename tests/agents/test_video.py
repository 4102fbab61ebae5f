from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from latentcraft.agents import video
from latentcraft.errors import UserError


def flat_frames(count: int, size: tuple[int, int] = (16, 32)) -> np.ndarray:
    """Frames of one grey each, brighter with time: what survives any codec."""
    levels = np.linspace(20, 230, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, *size, 3)).copy()


def read_video(path: Path) -> tuple[np.ndarray, str, float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        return frames, stream.codec_context.pix_fmt, float(stream.average_rate)


def test_a_video_holds_every_frame_enlarged(tmp_path: Path):
    frames = flat_frames(13)
    video.write_video(tmp_path / "a.mp4", frames, scale=4)
    read, pixels, rate = read_video(tmp_path / "a.mp4")
    assert read.shape == (13, 64, 128, 3) and pixels == "yuv420p" and rate == 20
    assert np.abs(read.mean((1, 2, 3)) - frames.mean((1, 2, 3))).max() < 6


def test_odd_sizes_still_play_everywhere(tmp_path: Path):
    video.write_video(tmp_path / "a.mp4", flat_frames(3, (17, 31)), scale=1)
    read, pixels, _ = read_video(tmp_path / "a.mp4")
    assert read.shape[1:3] == (16, 30) and pixels == "yuv420p"


def test_a_failed_video_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")

    def torn():
        yield from flat_frames(2)
        raise RuntimeError("the world broke")

    with pytest.raises(RuntimeError, match="the world broke"):
        video.write_video(path, torn())
    with pytest.raises(UserError, match="no frames"):
        video.write_video(path, [])
    assert path.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [path]


def test_an_encoder_that_fails_is_noticed(tmp_path: Path):
    # A directory that is no directory: the encoder starts, then cannot write.
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        video.write_video(tmp_path / "file" / "a.mp4", flat_frames(2))
    with pytest.raises(UserError, match="name it .mp4"):
        video.write_video(tmp_path / "a.gif", flat_frames(2))


def test_enlarging_keeps_pixels_square():
    frame = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    big = video.enlarge(frame, 3)
    assert big.shape == (6, 9, 3)
    np.testing.assert_array_equal(big[::3, ::3], frame)
    np.testing.assert_array_equal(big[2::3, 2::3], frame)


def test_side_by_side_is_as_long_as_the_shortest():
    left, right = flat_frames(5), 255 - flat_frames(4)
    row = np.stack(list(video.side_by_side([left, iter(right)])))
    assert row.shape == (4, 16, 32 * 2 + video.GAP, 3)
    np.testing.assert_array_equal(row[:, :, :32], left[:4])
    np.testing.assert_array_equal(row[:, :, -32:], right)
    labelled = np.stack(list(video.side_by_side([left, right], ["dream", "reference"], scale=2)))
    assert labelled.shape[1] > 32 and labelled[:, :20].max() > 200


def test_a_film_strip_shows_the_right_moments(tmp_path: Path):
    frames = flat_frames(41)
    video.film_strip({"dream": frames, "reference": 255 - frames}, tmp_path / "s.png", times=(0, 0.2, 1, 2, 5))
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    # Both rows, at the pictures' centres; 5 s is beyond the clip's end and left out.
    left = sheet.shape[1] - 4 * (32 + video.GAP)
    centres = [left + column * (32 + video.GAP) + 16 for column in range(4)]
    ticks = [0, 4, 20, 40]
    np.testing.assert_array_equal(sheet[24 + 8, centres, 0], frames[ticks, 0, 0, 0])
    np.testing.assert_array_equal(sheet[24 + 8 + 16 + video.GAP, centres, 0], 255 - frames[ticks, 0, 0, 0])
