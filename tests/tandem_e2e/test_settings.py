from pathlib import Path

from tandem_e2e.settings import IMAGE, from_environment


def test_a_kubeconfig_alone_is_not_taken() -> None:
    settings = from_environment({"KUBECONFIG": "/somebody/config", "HOME": "/root"})
    assert settings.kubeconfig is None
    assert settings.image == IMAGE


def test_a_kubeconfig_with_an_image_is() -> None:
    given = {"KUBECONFIG": "/mine", "E2E_IMAGE": "registry.test/tandem:1", "E2E_PROMETHEUS": "http://p:9090"}
    settings = from_environment(given)
    assert settings.kubeconfig == Path("/mine")
    assert settings.image == "registry.test/tandem:1"
    assert settings.prometheus == "http://p:9090"


def test_the_cache_follows_xdg() -> None:
    assert from_environment({"XDG_CACHE_HOME": "/c"}).cache == Path("/c/tandem")
    assert from_environment({"XDG_CACHE_HOME": ""}).cache == Path.home() / ".cache/tandem"
