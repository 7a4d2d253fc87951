"""What ``defib explain`` prints."""

import pytest

from defib.core.cause import Cause
from defib.core.errors import NotFound
from defib.report.pages import LimitLine, RulePage, page, reflowed

MARKDOWN = """\
One line that is much longer than eighty columns, so that it has to be broken somewhere in the middle.

## Heading

A paragraph
of two lines.
- an item that is much longer than eighty columns, so that it has to be broken somewhere in the middle
  and goes on
- a second item

```
code that is much longer than eighty columns must never be broken because it would no longer run as it is
```

    indented code is kept   as it is
"""

REFLOWED = """\
One line that is much longer than eighty columns, so that it has to be broken
somewhere in the middle.

## Heading

A paragraph of two lines.
- an item that is much longer than eighty columns, so that it has to be broken
  somewhere in the middle and goes on
- a second item

```
code that is much longer than eighty columns must never be broken because it would no longer run as it is
```

    indented code is kept   as it is"""

RULES = {
    "some-rule": RulePage(
        text="Finds something.\n\n## Causes\n\n- `weights`: too large.\n",
        causes=(Cause.WEIGHTS,),
        limits=(LimitLine(name="most", value=0.5, unit="decades", meaning="What", reason="Because"),),
    )
}


def test_prose_is_broken_anew_and_code_is_not():
    assert reflowed(MARKDOWN) == REFLOWED


def test_a_rule_s_page_tells_its_limits_and_that_it_was_not_measured_yet():
    assert page("some-rule", RULES).startswith(
        "rule some-rule\n\nFinds something.\n\n## Causes\n\n- `weights`: too large.\n\n"
        "Limits, set in pyproject.toml under [tool.defib.rules.some-rule]\n\n"
        "    most = 0.5 decades\n        What.\n        Why: Because.\n\nOn the proving ground\n"
    )
    assert "younger than the last measurement" in page("some-rule", RULES)


def test_a_cause_names_the_rules_that_can_find_it():
    assert page("weights", RULES).endswith("Named by:\n  defib explain some-rule")
    assert "Named by" not in page("born-dead", RULES)


@pytest.mark.parametrize("slug", ["some_rule", "Some Rule", "some", "somerule"])
def test_a_slip_is_answered_with_what_is_near(slug):
    with pytest.raises(NotFound, match="did you mean some-rule"):
        page(slug, RULES)


def test_names_that_have_a_page_elsewhere_are_near_too_and_none_twice():
    with pytest.raises(NotFound, match=r"did you mean some-rule, some-rules\?$"):
        page("some-rul", RULES, {}, lambda: ["some-rule", "some-rules", "S2-10"])
    with pytest.raises(NotFound, match=r"no page named s2-11; did you mean S2-10"):
        page("s2-11", RULES, {}, lambda: ["S2-10"])
    with pytest.raises(NotFound, match=r"no page named ''; `defib rules` lists the rules"):
        page("", RULES)


def test_other_names_are_not_looked_for_where_there_is_a_page():
    def never() -> list[str]:
        raise AssertionError

    assert page("some-rule", RULES, {}, never)


@pytest.mark.parametrize(
    ("slug", "said"),
    [("coastin", "did you mean coasting?"), ("S2-100", "S2-10"), ("ded-unit", "dead-unit")],
)
def test_a_slip_in_the_name_of_an_experiment_or_a_claim_is_answered_too(defib, slug, said):
    done = defib("explain", slug)
    assert (done.returncode, done.stdout) == (66, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_claim_is_explained_by_its_row_in_either_spelling(defib):
    done = defib("explain", "s0-3")
    assert done.returncode == 0
    assert done.stdout == (
        "claim S0-3\n\nOnce the gradient of a weight reaches 0, the weight is never updated again.\n\n"
        "Proof and literature: false.\n\nTested by:\n  defib lab run zero-is-not-forever\n"
    )
    assert "No experiment can settle it: an analogy" in defib("explain", "S0-25").stdout
