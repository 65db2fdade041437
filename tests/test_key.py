from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixpriv.errors import InputError, OutputError
from mixpriv.key import KEY_BYTES, ClientKey, content_digest, key_path, load_or_create_key

SECRET = bytes(range(32))
VOXELS = np.asfortranarray(np.arange(60).reshape(3, 4, 5), dtype=np.float32)


class TestFile:
    def test_created_once_private_and_kept(self) -> None:
        first = load_or_create_key()
        assert key_path().stat().st_mode & 0o777 == 0o600
        assert key_path().parent.stat().st_mode & 0o777 == 0o700
        assert len(key_path().read_bytes()) == KEY_BYTES
        assert load_or_create_key().derive("x") == first.derive("x")

    def test_two_processes_at_once_get_the_same_key(self, tmp_path: Path) -> None:
        code = "from mixpriv.key import load_or_create_key as k; print(k().derive('x').hex())"
        running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)]
        answers = {process.communicate()[0] for process in running}
        assert len(answers) == 1
        assert [p.name for p in key_path().parent.iterdir()] == ["client.key"]

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
    def test_a_key_that_others_can_read_is_refused(self, mode: int) -> None:
        load_or_create_key()
        key_path().chmod(mode)
        with pytest.raises(InputError, match=rf"client\.key: expected mode 0600, got {mode:04o}"):
            load_or_create_key()

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_wrong_size(self, size: int) -> None:
        load_or_create_key()
        key_path().write_bytes(bytes(size))
        with pytest.raises(InputError, match=f"expected 32 bytes of key, got {size}"):
            load_or_create_key()

    def test_not_a_file(self) -> None:
        key_path().mkdir(parents=True)
        with pytest.raises(InputError, match="expected a key file, got something else"):
            load_or_create_key()

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    def test_a_named_pipe_is_not_waited_for(self) -> None:
        key_path().parent.mkdir(parents=True)
        os.mkfifo(key_path(), 0o600)
        with pytest.raises(InputError, match="expected a key file, got something else"):
            load_or_create_key()

    def test_no_place_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
        with pytest.raises(OutputError, match="cannot create this private folder"):
            load_or_create_key()

    def test_export_never_overwrites(self, tmp_path: Path) -> None:
        ClientKey(SECRET).save(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == SECRET
        assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
        with pytest.raises(InputError, match="never overwritten"):
            ClientKey(SECRET).save(tmp_path / "copy")


class TestSecrecy:
    def test_never_shown(self) -> None:
        shown = repr(ClientKey(SECRET)) + str(ClientKey(SECRET)) + f"{[ClientKey(SECRET)]}"
        assert SECRET.hex()[:8] not in shown
        assert repr(SECRET)[2:10] not in shown

    def test_never_pickled(self) -> None:
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(ClientKey(SECRET))

    def test_wrong_length(self) -> None:
        with pytest.raises(InputError, match="expected 32 bytes, got 5"):
            ClientKey(b"short")


class TestDerivation:
    def test_every_argument_counts_and_none_runs_into_another(self) -> None:
        key = ClientKey(SECRET)
        seeds = [
            key.derive("reference", b"c", 0),
            key.derive("reference", b"c", 1),
            key.derive("reference", b"d", 0),
            key.derive("weight", b"c", 0),
            key.derive("referencec", b"", 0),
            ClientKey(bytes(32)).derive("reference", b"c", 0),
        ]
        assert len(set(seeds)) == len(seeds)
        assert {len(seed) for seed in seeds} == {32}

    def test_known_answer(self) -> None:
        """Changing this breaks the promise that a scan sent again is the same bytes."""
        assert ClientKey(SECRET).derive("reference", b"content", 2).hex() == KNOWN


KNOWN = "3b2d04fd50a23876810293d77f7c775349550398115900e035653870a8de2792"


class TestContent:
    def test_voxels_shape_and_affine_count(self) -> None:
        changed = VOXELS.copy(order="F")
        changed[1, 2, 3] = np.nextafter(changed[1, 2, 3], np.float32(np.inf))
        moved = np.eye(4)
        moved[0, 3] = 1e-9
        digests = {
            content_digest(VOXELS, np.eye(4)),
            content_digest(changed, np.eye(4)),
            content_digest(VOXELS, moved),
            content_digest(np.asfortranarray(VOXELS.reshape(4, 3, 5, order="F")), np.eye(4)),
        }
        assert len(digests) == 4

    def test_memory_order_does_not_count(self) -> None:
        assert content_digest(np.ascontiguousarray(VOXELS), np.eye(4)) == content_digest(VOXELS, np.eye(4))
