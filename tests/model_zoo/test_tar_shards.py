import io
import os
import tarfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snnconvert.converter.errors import DataRefused
from snnconvert.model_zoo.preprocessing import Preprocessing
from snnconvert.model_zoo.tar_shards import find_shards, open_shards

PREPROCESSING = Preprocessing((3, 4, 4), (0.5,) * 3, (0.5,) * 3)
Member = tuple[str, bytes]


def picture(seed: int, kind: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pixels(seeds: Sequence[int]) -> torch.Tensor:
    """The images [N, 3, 4, 4] that ``picture`` made."""
    images = [np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8) for seed in seeds]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def sample(name: str, seed: int, label: int) -> list[Member]:
    return [(f"{name}.png", picture(seed)), (f"{name}.cls", str(label).encode())]


def pack(path: Path, members: Sequence[Member], mode: str = "w", layout: int = tarfile.DEFAULT_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=layout) as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_reads_samples_in_the_order_of_shards_and_members(tmp_path: Path) -> None:
    second = pack(tmp_path / "b.tar", sample("9", 3, 1))
    first = pack(
        tmp_path / "a.tar",
        [("z/2.cls", b"7\n"), ("z/2.PNG", picture(1)), ("z/2.json", b"{}"), ("._x.png", b""), *sample("a/2.b/c", 2, 0)],
    )
    shards = open_shards([first, second], PREPROCESSING)
    assert (shards.labels.tolist(), shards.classes) == ([7, 0, 1], 8)
    assert shards.members.tolist() == [b"z/2.PNG", b"a/2.b/c.png", b"9.png"]
    assert torch.equal(shards.read(np.array([2, 0, 1, 0])), pixels([3, 1, 2, 1]))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_every_layout_and_long_names(tmp_path: Path, layout: int) -> None:
    names = [f"{'folder/' * 15}{seed:050}" for seed in range(3)]
    members = [member for seed, name in enumerate(names) for member in sample(name, seed, seed)]
    shards = open_shards([pack(tmp_path / "a.tar", members, layout=layout)], PREPROCESSING)
    assert shards.members.tolist() == [f"{name}.png".encode() for name in names]
    assert torch.equal(shards.read(np.arange(3)), pixels(range(3)))


def test_folders_and_links_inside_are_no_samples(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", sample("x/1", 0, 0))
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE):
            info = tarfile.TarInfo("folder.png")
            info.type = kind
            tar.addfile(info)
    assert open_shards([path], PREPROCESSING).members.tolist() == [b"x/1.png"]


def test_the_first_dot_ends_a_name(tmp_path: Path) -> None:
    """A mask beside an image has another suffix, ``seg.png``, so there is one image."""
    path = pack(tmp_path / "a.tar", [("1.seg.png", picture(9)), *sample("1", 0, 0), *sample("1_1", 1, 1)])
    assert open_shards([path], PREPROCESSING).members.tolist() == [b"1.png", b"1_1.png"]


def test_threads_share_the_shards(tmp_path: Path) -> None:
    members = [member for seed in range(40) for member in sample(str(seed), seed, 0)]
    shards = open_shards([pack(tmp_path / "a.tar", members)], PREPROCESSING)
    together = threading.Barrier(4)

    def read(start: int) -> torch.Tensor:
        together.wait()
        return torch.cat([shards.read(np.arange(start, 40, 4)) for _ in range(5)])

    with ThreadPoolExecutor(4) as pool:
        for start, found in enumerate(pool.map(read, range(4))):
            assert torch.equal(found, pixels(range(start, 40, 4)).repeat(5, 1, 1, 1))


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("t-{008..010}.tar", ["t-008.tar", "t-009.tar", "t-010.tar"]),
        ("t-{010..008}.tar", ["t-008.tar", "t-009.tar", "t-010.tar"]),
        ("t-0{8..9}.tar", None),
        ("t-00{8..9}.tar", ["t-008.tar", "t-009.tar"]),
        ("t-0{0..1}{0..1}.tar", None),
        ("t-{08..10}.tar", None),
        ("t-*.tar", ["t-008.tar", "t-009.tar", "t-010.tar"]),
        ("*/v-{1..2}*", ["sub [1]/v-10.tar", "sub [1]/v-2.tar"]),
        ("sub [1]/v-*.tar", ["sub [1]/v-10.tar", "sub [1]/v-2.tar"]),
        ("sub [1]", ["sub [1]/v-10.tar", "sub [1]/v-2.tar"]),
        ("t-009.tar", ["t-009.tar"]),
        ("t-011.tar", []),
        (".", []),
        ("classes", []),
    ],
)
def test_finds_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, found: list[str] | None) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("t-008.tar", "t-009.tar", "t-010.tar", "sub [1]/v-2.tar", "sub [1]/v-10.tar", "sub [1]/.x.tar"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("classes/cat").mkdir(parents=True)
    Path("classes/a.tar").touch()
    if found is None:
        with pytest.raises(DataRefused, match=r"expected tar shards, no file is called t-0?\d\d?\.tar"):
            find_shards(reference)
    else:
        assert [str(path) for path in find_shards(reference)] == found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("x-*.tar", r"x-\*\.tar: expected tar shards, no file is called x-\*\.tar"),
        ("a-{0..1}.tar", r"a-\{0\.\.1\}\.tar: expected tar shards, no file is called a-1\.tar"),
        ("a-{x,y}.tar", r"expected a range of numbers in the braces, as in \{000\.\.010\}, got \{x,y\}"),
        ("a-*", r"a-\*: expected \.tar files, got a-0\.json\n.*end in \.tar"),
    ],
)
def test_refuses_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-0.tar").touch()
    Path("a-0.json").touch()
    with pytest.raises(DataRefused, match=message):
        find_shards(pattern)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], r"a\.tar: expected samples, found none\n.*\.jpg"),
        ([("1.png", b"")], r"a\.tar: expected one class \(\.cls\) in the sample 1, got 0: 1\.png\n.*side by side"),
        ([("x/1.cls", b"0")], r"expected one image \(\.jpg, .*\) in the sample x/1, got 0: x/1\.cls"),
        ([*sample("1", 0, 0), ("1.jpg", b"")], r"expected one image .* in the sample 1, got 2: 1\.png, 1\.jpg"),
        ([*sample("1", 0, 0), ("1.cls", b"0")], r"expected one class .* in the sample 1, got 2: 1\.cls, 1\.cls"),
        ([("1.png", b""), ("2.png", b""), ("1.cls", b"0")], r"in the sample 1, got 0: 1\.png"),
        *(
            ([("1.png", b""), ("1.cls", text)], rf"expected a whole number of at least 0 in 1\.cls, got {shown}\n")
            for text, shown in (
                (b"-1", "'-1'"),
                (b"cat", "'cat'"),
                (b"", "''"),
                (b"1.0", r"'1\.0'"),
                (b"9" * 19, "'9+'"),
                (b"1" + b" " * 32 + b"2", "'1'"),
                (b"\xb2", "'\ufffd'"),
            )
        ),
    ],
)
def test_refuses_samples(tmp_path: Path, members: list[Member], message: str) -> None:
    with pytest.raises(DataRefused, match=message):
        open_shards([pack(tmp_path / "a.tar", members)], PREPROCESSING)


@pytest.mark.parametrize(("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tar", "w:gz"), ("a.tar.xz", "w:xz")])
def test_refuses_compressed_tars(tmp_path: Path, name: str, mode: str) -> None:
    pack(tmp_path / name, sample("1", 0, 0), mode)
    with pytest.raises(DataRefused, match=rf"{name} is compressed: reading at random needs a plain tar\n.*decompress"):
        open_shards(find_shards(str(tmp_path)), PREPROCESSING)


def _corrupt_header(content: bytes) -> bytes:
    """The header of the second sample's image, behind 2 headers with a block of content each."""
    return content[:2100] + b"?" + content[2101:]


def _negative_size(content: bytes) -> bytes:
    """A size of -2048 in the second header, which would make a reader go round in circles."""
    info = tarfile.TarInfo("1.cls")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-2048).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:1024] + bytes(header) + content[1536:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "empty file"),
        (lambda content: b"no tar" * 1000, "invalid header|bad checksum"),
        (lambda content: content[:100], "truncated header"),
        (lambda content: content[:1000], "unexpected end of data"),
        (lambda content: content[:2048], "the blocks that end an archive are missing"),
        (lambda content: content[:4096], "the blocks that end an archive are missing"),
        (lambda content: content[:2300], "the blocks that end an archive are missing"),
        (_corrupt_header, "no header and no end at byte 2048, or several tars"),
        (lambda content: content + content, "no header and no end at byte 4096, or several tars"),
        (_negative_size, "a size below 0 at byte 1024|invalid header"),
    ],
)
def test_refuses_damaged_tars(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = pack(tmp_path / "a.tar", [*sample("1", 0, 0), *sample("2", 1, 1)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataRefused, match=rf"a\.tar is no tar file, or a truncated or damaged one: .*({message})"):
        open_shards([path], PREPROCESSING)


@given(st.lists(st.tuples(st.integers(0, 4607), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, bytes_: list[tuple[int, int]]
) -> None:
    path = pack(tmp_path_factory.mktemp("damaged") / "a.tar", [*sample("1", 0, 0), *sample("2", 1, 1)])
    content = bytearray(path.read_bytes())
    for position, value in bytes_:
        content[position] = value
    path.write_bytes(content)
    try:
        shards = open_shards([path], PREPROCESSING)
        assert shards.read(np.arange(len(shards.labels))).shape[1:] == (3, 4, 4)
    except DataRefused as error:
        assert str(path) in error.message  # noqa: PT017


def test_damaged_images_are_named_when_read(tmp_path: Path) -> None:
    members = [*sample("1", 0, 0), ("2.png", picture(1)[:50]), ("2.cls", b"1"), ("3.jpg", b"no"), ("3.cls", b"1")]
    shards = open_shards([pack(tmp_path / "a.tar", members)], PREPROCESSING)
    assert torch.equal(shards.read(np.array([0])), pixels([0]))
    with pytest.raises(DataRefused, match=r"2\.png in .*a\.tar is no image, or a damaged one"):
        shards.read(np.array([1]))
    with pytest.raises(DataRefused, match=r"3\.jpg in .*a\.tar is no image, or a damaged one: its format is unknown"):
        shards.read(np.array([2]))


def test_another_size_needs_resizing_to_be_asked_for(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", sample("1", 0, 0))
    shards = open_shards([path], Preprocessing((3, 5, 5), (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(DataRefused, match=r"1\.png in .*a\.tar: expected images of 5x5 pixels, got 4x4\n.*--resize 5"):
        shards.read(np.array([0]))


def test_a_shard_that_is_gone_is_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", sample("1", 0, 0))
    shards = open_shards([path], PREPROCESSING)
    os.remove(path)
    with pytest.raises(DataRefused, match=r"a\.tar was readable and is not any more: .*No such file"):
        shards.read(np.array([0]))


def test_a_network_for_grey_images_takes_no_shards(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", sample("1", 0, 0))
    with pytest.raises(DataRefused, match="expects 1 channels, these images have 3"):
        open_shards([path], Preprocessing((1, 4, 4), (0.5,), (0.5,)))
