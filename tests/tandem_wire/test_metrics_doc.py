from tandem_wire.metrics import ALL
from tandem_wire.metrics_doc import page


def test_every_series_has_one_row_with_its_labels() -> None:
    rows = {line.split("`")[1]: line for line in page().splitlines() if line.startswith("| `")}
    assert list(rows) == [metric.name for metric in ALL]
    for metric in ALL:
        assert metric.kind in rows[metric.name]
        assert metric.help in rows[metric.name]
        assert all(f"`{label}`" in rows[metric.name] for label in metric.labels)
