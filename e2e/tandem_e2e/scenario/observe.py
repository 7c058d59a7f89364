"""Prometheus sees everything, and the dashboard asks it only what it can answer."""

from tandem_e2e.dashboard import expressions
from tandem_e2e.prometheus import Prometheus
from tandem_e2e.scenario.run import NAMESPACE, SERVICE, SERVICE_LABEL, Run

VARIABLES = {"namespace": NAMESPACE, "llmservice": SERVICE, "__rate_interval": "10s"}


def scraped(this: Run, prometheus: Prometheus) -> None:
    """The chart's monitors find the operator and every pod of the quickstart."""

    def complete() -> bool:
        up = {
            url.split("//")[1].split(":")[0] for url, health in prometheus.targets().items() if health == "up"
        }
        pods = {pod["status"].get("podIP", "") for pod in this.pods(SERVICE_LABEL)}
        return pods < up  # the operator is up, too

    this.wait("Prometheus to scrape every pod", complete, 60)


def dashboard(this: Run, prometheus: Prometheus) -> None:
    """Every expression of the dashboard returned numbers in this run."""
    asked = expressions()
    silent = [one for one in asked if not prometheus.samples(one.filled(VARIABLES), this.begun)]
    print(f"    {len(asked) - len(silent)} of {len(asked)} expressions return data")
    assert not silent, "no data for:\n" + "\n".join(f"{one.panel}: {one.text}" for one in silent)
