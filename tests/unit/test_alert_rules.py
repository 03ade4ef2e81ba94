"""The alert rules: each asks for metrics and labels that there are, and says what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics import METRICS

ROOT = Path(__file__).parents[2]
LABELS = {metric.name: set(metric.labels) for metric in METRICS}
PROMETHEUS = {"up": {"job", "instance"}}
"""What Prometheus knows by itself."""


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load((ROOT / "ops/alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


every_rule = pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])


def series(expression: str) -> list[tuple[str, set[str]]]:
    """Give each metric that an expression names, with the labels by which it is picked."""
    found = re.findall(r"\b(parsewire_\w+|up\b)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*[=!]", picked))) for name, picked in found]


@every_rule
def test_a_rule_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    grouped = {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        for label in labels.split(",")
    }
    named = series(rule["expr"])
    assert named
    for name, picked in named:
        assert picked | grouped <= (LABELS | PROMETHEUS)[name]


@every_rule
def test_a_summary_fills_in_labels_that_its_rule_keeps(rule: dict[str, Any]) -> None:
    filled = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    kept = {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        for label in labels.split(",")
    }
    whole = rule["expr"].startswith("up ")
    assert filled <= (PROMETHEUS["up"] if whole else kept)


def test_every_alert_has_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
