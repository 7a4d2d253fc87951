"""Verbs on live models, and the messages of file-making commands, in real terminals: any name, 80 columns."""

import pytest
from test_widths import COLOUR, fits, in_terminal

NETS = """
import torch
from torch import nn

NAMES = ("x" * 10_000, "\\u202egnp\\u2067exe", "\\x1b[31mred\\x1b[2J\\x07", "\\u6f22\\u5b57" * 300,
         "a\\nb\\tc\\r", "<script>alert(1)</script>", "q\\"'`$(rm)", "None", "null", "\\u2028x", " ")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        for name in NAMES:
            self.add_module(name, nn.Linear(6, 6))
        self.out = nn.Linear(6, 3)
        with torch.no_grad():
            getattr(self, NAMES[3]).bias.fill_(-100.0)

    def forward(self, x):
        for name in NAMES:
            x = torch.relu(getattr(self, name)(x)) + (0 if name == NAMES[3] else x)
        return self.out(x)


def batch():
    return torch.randn(32, 6), torch.randint(0, 3, (32,))


def boom():
    raise RuntimeError("a\\x1b[2Jb\\u202e\\nsecond")
"""


@pytest.mark.parametrize("verb", ["check", "triage", "certify"])
@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}, {"LC_ALL": "C"}], ids=["colour", "plain", "c"])
def test_a_live_model_of_any_names_is_told_in_80_columns(verb, environ, tmp_path):
    (tmp_path / "nets.py").write_text(NETS, "utf-8")
    text = in_terminal([verb, "nets:Net", "--batch", "nets:batch"], tmp_path, **environ)
    fits(text)
    assert len(text.splitlines()) > 10
    assert bool(COLOUR.search(text)) is ("NO_COLOR" not in environ)
    assert "\u202e" not in text
    assert environ.get("LC_ALL") != "C" or text.isascii()


@pytest.mark.parametrize("verb", ["check", "triage", "certify"])
def test_a_factory_that_raises_is_one_line_without_its_control_characters(verb, tmp_path, defib):
    (tmp_path / "nets.py").write_text(NETS, "utf-8")
    done = defib(verb, "nets:Net", "--batch", "nets:boom")
    assert done.returncode == 64
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip("\n").isprintable()
    assert "nets.py:" in done.stderr


@pytest.mark.parametrize("name", ["\x1b[2J.html", "\u202egnp.html", "a\nb.html", "<script>.html"])
def test_the_name_of_a_written_file_cannot_command_the_terminal(name, healthy_record, tmp_path):
    for words in (
        ["report", str(healthy_record), "-o", name],
        ["export", str(healthy_record), "--json", f"{name}.json"],
    ):
        text = COLOUR.sub("", in_terminal(words, tmp_path))
        assert text.count("\n") == 1
        assert text.rstrip("\n").isprintable()
    assert (tmp_path / name).is_file()


def test_an_experiment_is_explained_by_its_slug(defib):
    done = defib("explain", "coasting")
    assert done.returncode == 0
    assert "It settles:" in done.stdout
    fits(done.stdout)


def test_a_missing_record_is_told_without_importing_torch(tmp_path, defib):
    done = defib("prescribe", "missing.rec", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 66
    assert "no such record: missing.rec" in done.stderr
    assert "| torch\n" not in done.stderr
