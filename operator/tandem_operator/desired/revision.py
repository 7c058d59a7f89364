"""The revision: a hash of what two workers must have in common to hand KV to each other."""

import hashlib
import json

from tandem_operator.api import Connector, LLMService
from tandem_operator.desired.engines import PRESETS
from tandem_operator.images import Images


def connector(service: LLMService) -> Connector:
    """The connector that `auto` stands for."""
    wanted = service.spec.kv_transfer.connector
    return PRESETS[service.spec.engine.type].connector if wanted == "auto" else wanted


def revision(service: LLMService, images: Images) -> str:
    """Ten hex digits over the model, the engine with its image, and the connector.

    Counts, bounds, objectives and one pool's own arguments or resources do not change it: those workers
    still pair with the others.
    """
    spec = service.spec
    inputs = {
        "model": spec.model.manifest(),
        "engine": spec.engine.manifest(),
        "image": spec.engine.image or images.engine(spec.engine.type),
        "connector": connector(service),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:10]
