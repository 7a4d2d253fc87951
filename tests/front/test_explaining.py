"""What ``defib explain`` prints."""

import pytest

from defib.core.errors import NotFound
from defib.core.finding import Cause
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


def test_a_rule_s_page_ends_with_its_limits():
    assert page("some-rule", RULES) == (
        "rule some-rule\n\nFinds something.\n\n## Causes\n\n- `weights`: too large.\n\n"
        "Limits, set in pyproject.toml under [tool.defib.rules.some-rule]\n\n"
        "    most = 0.5 decades\n        What.\n        Why: Because."
    )


def test_a_cause_names_the_rules_that_can_find_it():
    assert page("weights", RULES).endswith("Named by:\n  defib explain some-rule")
    assert "Named by" not in page("born-dead", RULES)


@pytest.mark.parametrize("slug", ["some_rule", "Some Rule", "some", "somerule"])
def test_a_slip_is_answered_with_what_is_near(slug):
    with pytest.raises(NotFound, match="did you mean some-rule"):
        page(slug, RULES)
