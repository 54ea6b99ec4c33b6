"""The hook under which files are opened notes what Python does that such a file has no business with."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from audited import Watch, strangers


def test_it_notes_what_a_file_must_not_do(tmp_path: Path) -> None:
    for name in ("in", "out", "else"):
        (tmp_path / name).mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "else")
    watch = Watch([str(tmp_path / "in")], [str(tmp_path / "out")])
    allowed = [
        ("open", (str(tmp_path / "in/x"), "r", 0)), ("open", (str(tmp_path / "out/x"), "w", os.O_WRONLY)),
        ("open", (os.__file__, "r", 0)), ("open", ("/dev/null", "w", os.O_WRONLY)), ("open", (3, "w", 0)),
        ("os.mkdir", (str(tmp_path / "out/new"), 0o777, -1)), ("os.listdir", (str(tmp_path / "in"),)),
    ]  # fmt: skip
    refused = [
        ("open", (str(tmp_path / "else/x"), "r", 0)), ("open", (str(tmp_path / "in/link/y"), "r", 0)),
        ("open", (str(tmp_path / "in/x"), "w", os.O_WRONLY)), ("open", (os.__file__, "a", os.O_APPEND)),
        ("open", (b"/etc/shadow", "rb", 0)), ("open", (str(tmp_path / "out/../else/z"), None, os.O_RDONLY)),
        ("os.rename", (str(tmp_path / "in/x"), str(tmp_path / "out/x"), -1, -1)),
        ("os.listdir", (str(tmp_path / "else"),)), ("os.remove", (str(tmp_path / "else/x"), -1)),
        ("subprocess.Popen", ("true", [], None, None)), ("os.system", (b"true",)), ("socket.__new__", (None, 2, 1, 0)),
        ("exec", (compile("1", str(tmp_path / "in/x.py"), "exec"),)), ("exec", (compile("1", "<string>", "exec"),)),
        ("exec", (compile("1", os.__file__, "exec"),)), ("marshal.loads", (b"",)), ("ctypes.dlopen", (str(tmp_path / "in/x.so"),)), ("os.kill", (1, 9)),
    ]  # fmt: skip
    for event, arguments in allowed:
        watch(event, arguments)
    assert list(watch.found) == []
    for number, (event, arguments) in enumerate(refused, 1):
        watch(event, arguments)
        assert len(watch.found) == number, (event, arguments)


def test_a_module_from_elsewhere_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(__file__, tmp_path / "in/stranger_to_all.py")
    watch = Watch([str(tmp_path / "in")], [])
    module = type(sys)("stranger_to_all")
    module.__file__ = str(tmp_path / "in/stranger_to_all.py")
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "stranger_to_all", module)
    strangers(before, watch)
    assert len(watch.found) == 1 and "stranger_to_all" in next(iter(watch.found))
