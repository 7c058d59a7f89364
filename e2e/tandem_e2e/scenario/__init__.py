"""What a user does with Tandem on a cluster, each step with its assertions."""

from tandem_e2e.scenario import autoscale, disrupt, install, manage, observe, remove, serve
from tandem_e2e.scenario.run import Run
from tandem_e2e.steps import Steps

NO_PROMETHEUS = "set E2E_PROMETHEUS to a Prometheus that scrapes the cluster and that its pods reach"


def play(this: Run, steps: Steps) -> None:
    """All steps in order; the first that fails raises."""
    with steps.step("helm install"):
        install.install(this)
    with steps.step("quickstart Available"):
        serve.quickstart(this)
    with steps.step("streamed answer through two pods"):
        serve.streamed_answer(this)
    with steps.step("text equality with a mixed worker"):
        serve.equality(this)
    with steps.step("kubectl scale"):
        manage.scale(this)
    with steps.step("deleted and edited children heal"):
        manage.heal(this)
    with steps.step("bad spec"):
        manage.bad_spec(this)
    with steps.step("delete a decode pod under load"):
        disrupt.delete_pod(this)
    with steps.step("delete one without grace under load"):
        disrupt.force_delete_pod(this)
    if this.crash is not None:
        with steps.step("crash a decode worker under load"):
            disrupt.crash_worker(this, this.crash)
    _watched(this, steps)
    with steps.step("delete the resource"):
        remove.remove(this)
    with steps.step("helm uninstall"):
        install.uninstall(this)


def _watched(this: Run, steps: Steps) -> None:
    """What needs a Prometheus."""
    if this.prometheus is None:
        for name in ("Prometheus scrapes", "autoscaling", "dashboard"):
            steps.skip(name, NO_PROMETHEUS)
        return
    with steps.step("Prometheus scrapes"):
        observe.scraped(this, this.prometheus)
    with steps.step("autoscaling"):
        autoscale.autoscale(this, this.prometheus)
    with steps.step("dashboard"):
        observe.dashboard(this, this.prometheus)
