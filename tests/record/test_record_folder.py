"""Where a record may be made: never into another run or over other files, one folder for all ranks."""

import os
import stat
import subprocess
import sys
import textwrap
import threading

import pytest
from record_samples import fill, killed, record

from defib.core.errors import OutputError
from defib.record.disk import is_remote, shown
from defib.record.reader import read
from defib.record.writer import Writer


def refusal(*args, **kwargs):
    """The one line with which a record is refused."""
    with pytest.raises(OutputError) as caught:
        Writer.create(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    assert "; " in line, "says the way out"
    return line


def test_a_second_run_does_not_append_to_the_first(tmp_path):
    path = record(tmp_path / "x.rec")
    before = (path / "rank-00000.db").read_bytes()
    assert "--force" in refusal(path)
    assert (path / "rank-00000.db").read_bytes() == before


def test_force_replaces_a_record(tmp_path):
    path = record(tmp_path / "x.rec", steps=40)
    writer = Writer.create(path, force=True)
    fill(writer, steps=5)
    writer.close("finished")
    assert read(path).steps == 5


def test_force_replaces_the_record_of_a_killed_run(tmp_path):
    path = killed(tmp_path / "x.rec")
    Writer.create(path, force=True).close("finished")
    assert read(path).steps == 0


def test_force_replaces_nothing_else(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.tex").write_text("years of work")
    assert "not a defib record" in refusal(tmp_path / "results", force=True)
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "not a defib record" in refusal(tmp_path / "thesis.tex", force=True)
    path = record(tmp_path / "x.rec")
    (path / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in refusal(path, force=True)
    assert read(path).steps == 40
    (tmp_path / "link.rec").symlink_to(record(tmp_path / "y.rec"))
    refusal(tmp_path / "link.rec", force=True)
    assert read(tmp_path / "y.rec").steps == 40


def test_force_does_not_replace_a_run_that_is_being_written(tmp_path):
    writer = Writer.create(tmp_path / "x.rec")
    assert "being written" in refusal(tmp_path / "x.rec", force=True)
    writer.close("finished")
    Writer.create(tmp_path / "x.rec", force=True).close("finished")


def test_of_many_writers_of_one_path_one_gets_it(tmp_path):
    got, refused = [], []

    def create():
        try:
            got.append(Writer.create(tmp_path / "x.rec"))
        except OutputError as error:
            refused.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    fill(got[0])
    got[0].close("finished")
    assert read(tmp_path / "x.rec").steps == 40


def test_folders_above_are_made_and_the_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = Writer.create("a/b/x.rec")
    os.chdir("/")
    writer.close("finished")
    assert writer.path == tmp_path / "a/b/x.rec"
    assert read(tmp_path / "a/b/x.rec").facts["status"] == "finished"


@pytest.mark.parametrize("name", ["nul\0character", "n" * 300, "file/x.rec"])
def test_an_impossible_place_is_one_clear_line(tmp_path, name):
    (tmp_path / "file").write_text("")
    refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["line\nbreak", "a?b#c%20d&mode=ro", "'quoted\"", "\udcff", " ", "é"])
def test_an_odd_name_works(tmp_path, name):
    path = record(tmp_path / name)
    assert read(path).steps == 40
    assert "\n" not in refusal(path)


AS_NOBODY = """
import encodings.ascii, encodings.idna, os, sys  # while it may
from defib.record.writer import Writer
from defib.core.errors import OutputError
os.setgid(65534); os.setuid(65534)
try:
    Writer.create(sys.argv[1])
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_read_only_folder_is_one_clear_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(tmp_path / "x.rec")],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert "Permission denied; choose another place" in done.stdout, done.stderr
    assert not (tmp_path / "x.rec").exists()


def test_all_ranks_of_a_job_find_one_folder_in_any_order(tmp_path):
    code = """
        import sys, time
        from record_samples import fill
        from defib.record.writer import Writer
        rank = int(sys.argv[2])
        time.sleep([0.4, 0.0, 0.2][rank])
        writer = Writer.create(sys.argv[1], rank=rank)
        fill(writer, seed=rank)
        writer.close("finished")
        assert writer.fault is None
    """
    environment = os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "WORLD_SIZE": "3"}
    environment["PYTHONPATH"] = os.path.dirname(__file__)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "x.rec"), str(rank)], env=environment
        )
        for rank in range(3)
    ]
    assert [rank.wait(60) for rank in ranks] == [0, 0, 0]
    run = read(tmp_path / "x.rec")
    assert run.facts["ranks"] == 3
    assert run.readings[0].tally.samples == 24


def test_a_rank_does_not_join_an_older_run(tmp_path):
    code = "import sys; from defib.record.writer import Writer; Writer.create(sys.argv[1]).close('finished')"
    environment = os.environ | {"MASTER_PORT": "29500"}
    # Another launcher: a shell between us and it, so that its parent is not ours.
    shell = ["sh", "-c", '"$0" -c "$1" "$2"; true', sys.executable, code, str(tmp_path / "x.rec")]
    subprocess.run(shell, env=environment, check=True)
    assert "belongs to another run" in refusal(tmp_path / "x.rec", rank=1, wait=0.2)
    assert "there is none" in refusal(tmp_path / "y.rec", rank=1, wait=0.2)


def test_a_rank_does_not_write_into_the_file_of_its_like(tmp_path):
    first = Writer.create(tmp_path / "x.rec")
    second = Writer.create(tmp_path / "x.rec", rank=1)
    refusal(tmp_path / "x.rec", rank=1, wait=0.2)
    first.close("finished")
    second.close("finished")


MOUNTS = """\
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:50 / {root}/my\\040home rw shared:1 - nfs4 server:/home rw
3 2 0:51 / {root}/my\\040home/scratch rw - xfs /dev/sdb rw
4 1 0:52 / {root}/box rw - fuse.sshfs me@there rw
"""


def test_a_network_file_system_is_known_by_its_mount(tmp_path):
    mounts = tmp_path / "mountinfo"
    root = tmp_path.resolve()
    mounts.write_text(MOUNTS.format(root=root))
    expected = {"my home/x": True, "my home/scratch/x": False, "my homes/x": False, "box/x": True, "x": False}
    assert {name: is_remote(root / name, str(mounts)) for name in expected} == expected
    assert not is_remote(root, str(tmp_path / "no mounts here"))


def test_a_path_in_a_message_is_one_short_line():
    assert shown("a\nb\x1b[31m\ud800") == "a\\nb\\x1b[31m\\ud800"
    assert len(shown("x" * 10_000)) < 400


def test_files_are_ordinary_files(tmp_path):
    path = record(tmp_path / "x.rec")
    assert {stat.S_IMODE(file.stat().st_mode) & 0o111 for file in path.iterdir()} == {0}
