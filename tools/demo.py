"""What `make demo` runs: a net that dies and a healthy one, both under watch, and the answers checked.

Exits 0 only if defib names the fault that the example states, and finds nothing
to warn of in the healthy one. `python tools/demo.py --readme` puts what it prints into
README.md; `tests/examples/test_demo.py` holds the two to each other.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = "demo"
"""Folder of the records, below the current one: they stay, to be asked further."""
ALARMING = ("error", "warning")
BEGIN, END = (
    "<!-- transcript of `make demo`: begin -->\n```console\n",
    "```\n<!-- transcript of `make demo`: end -->",
)


def defib(*arguments: str, capture: bool = False) -> str:
    """Runs one defib command; its standard output if captured. Ends the demo if it fails."""
    command = [sys.executable, "-m", "defib", *arguments]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(f"demo: `defib {' '.join(arguments)}` ended with exit code {done.returncode}")
    return done.stdout or ""


def watch(script: str, record: str) -> list[dict[str, object]]:
    """Trains an example under watch, then asks for the findings as data.

    Returns:
        The findings of severity warning or worse.
    """
    words = ("run", "-o", record, script, "--epochs", "5")
    shutil.rmtree(record, ignore_errors=True)  # of the demo before
    print(f"$ defib {' '.join(words)}\n", flush=True)
    defib(*words)
    diagnosis = json.loads(defib("diagnose", record, "--json", capture=True))
    if diagnosis["verdict"] == "not-observed":
        sys.exit(f"demo: defib observed nothing of {script}")
    return [finding for finding in diagnosis["findings"] if finding["severity"] in ALARMING]


def expected(script: str) -> dict[str, str]:
    """What the example's own docstring says the answer should be."""
    line = re.search(r"^expected: (.+)$", Path(script).read_text(encoding="utf-8"), re.MULTILINE)
    if line is None:
        sys.exit(f"demo: {script} does not state an expected answer")
    return dict(re.findall(r"(\w+)=(\S+)", line[1]))


def show() -> None:
    """Both runs, one sentence before each and one at the end."""
    dying, healthy = "examples/dying_relu.py", "examples/healthy_cnn.py"
    print("1. A small net on real digits. In the third epoch its learning rate slips by a decimal.\n")
    found = watch(dying, f"{RECORDS}/dying.rec")
    wanted = {key: value for key, value in expected(dying).items() if key != "units"}
    if not found or any(found[0][key] != value for key, value in wanted.items()):
        sys.exit(f"demo: expected {wanted}, found {json.dumps(found[:1], indent=1)}")
    print("\n2. The control: a healthy convolutional net on the same digits.\n")
    found = watch(healthy, f"{RECORDS}/healthy.rec")
    if found:
        sys.exit(f"demo: a false alarm on the healthy control: {json.dumps(found, indent=1)}")
    print("\ndemo: the dying net was named as such, and the healthy one was left alone.")
    print(f"demo: both records stay in {RECORDS}/, for `defib report {RECORDS}/dying.rec` and its like;")
    print("demo: `defib` is .venv/bin/defib, or the plain word after `. .venv/bin/activate`.")


def into_readme() -> None:
    """Puts what the demo prints today between the two marks in README.md."""
    command = [sys.executable, __file__]
    said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}{said.stdout}{END}{after}", encoding="utf-8")


def main() -> None:
    """The demo, below the current folder; or its transcript into README.md."""
    if sys.argv[1:] == ["--readme"]:
        into_readme()
    else:
        show()


if __name__ == "__main__":
    main()
