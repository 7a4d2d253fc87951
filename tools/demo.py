"""What `make demo` runs: a net that dies and a healthy one, both under watch, and the answers checked.

Exits 0 only if defib names the fault that the example states, and finds nothing
to warn of in the healthy one.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ALARMING = ("error", "warning")


def defib(*arguments: str, capture: bool = False) -> str:
    """Runs one defib command; its standard output if captured. Ends the demo if it fails."""
    command = [sys.executable, "-m", "defib", *arguments]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(f"demo: `defib {' '.join(arguments)}` ended with exit code {done.returncode}")
    return done.stdout or ""


def watch(script: str, record: Path) -> list[dict[str, object]]:
    """Trains an example under watch, then asks for the findings as data.

    Returns:
        The findings of severity warning or worse.
    """
    print(f"$ defib run examples/{script} --epochs 5\n", flush=True)
    defib("run", "-o", str(record), str(EXAMPLES / script), "--epochs", "5")
    diagnosis = json.loads(defib("diagnose", str(record), "--json", capture=True))
    if diagnosis["verdict"] == "not-observed":
        sys.exit(f"demo: defib observed nothing of {script}")
    return [finding for finding in diagnosis["findings"] if finding["severity"] in ALARMING]


def expected(script: str) -> dict[str, str]:
    """What the example's own docstring says the answer should be."""
    line = re.search(r"^expected: (.+)$", (EXAMPLES / script).read_text(encoding="utf-8"), re.MULTILINE)
    if line is None:
        sys.exit(f"demo: {script} does not state an expected answer")
    return dict(re.findall(r"(\w+)=(\S+)", line[1]))


def main() -> None:
    """Both runs, one sentence before each and one at the end."""
    with tempfile.TemporaryDirectory(prefix="defib-demo-") as folder:
        print("1. A small net on real digits. In the third epoch its learning rate slips by a decimal.\n")
        found = watch("dying_relu.py", Path(folder) / "dying.rec")
        wanted = {key: value for key, value in expected("dying_relu.py").items() if key != "units"}
        if not found or any(found[0][key] != value for key, value in wanted.items()):
            sys.exit(f"demo: expected {wanted}, found {json.dumps(found[:1], indent=1)}")
        print("\n2. The control: a healthy convolutional net on the same digits.\n")
        found = watch("healthy_cnn.py", Path(folder) / "healthy.rec")
        if found:
            sys.exit(f"demo: a false alarm on the healthy control: {json.dumps(found, indent=1)}")
    print("\ndemo: the dying net was named as such, and the healthy one was left alone.")


if __name__ == "__main__":
    main()
