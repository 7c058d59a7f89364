"""The KV messages: old receivers keep what newer senders add; generated code matches the proto file."""

import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from tandem_wire import kv_pb2
from tandem_wire.digest import prompt_digest

WIRE = Path(sys.modules["tandem_wire.kv_pb2"].__file__ or "").parent


def test_unknown_fields_survive_a_hop() -> None:
    known = kv_pb2.PullRequest(handle="h", first_block=2).SerializeToString()
    field_900_bytes = b"\xa2\x38\x05hello"
    message = kv_pb2.PullRequest.FromString(known + field_900_bytes)
    assert message.handle == "h"
    message.first_block = 3
    assert field_900_bytes in message.SerializeToString()
    assert kv_pb2.PullRequest.FromString(message.SerializeToString()).first_block == 3


def test_unknown_enum_values_survive_a_hop() -> None:
    message = kv_pb2.SetRoleRequest.FromString(b"\x08\x2a")
    assert message.role == 42
    assert message.SerializeToString() == b"\x08\x2a"


def test_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    out = tmp_path / "kv.binpb"
    args = ["protoc", "-I", str(WIRE.parent), f"--descriptor_set_out={out}", str(WIRE / "kv.proto")]
    assert protoc.main(args) == 0
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    checked_in = FileDescriptorProto()
    kv_pb2.DESCRIPTOR.CopyToProto(checked_in)
    for message in compiled.message_type:
        for field in message.field:
            field.ClearField("json_name")
    assert checked_in == compiled


def test_digest_tells_prompts_apart() -> None:
    digests = {prompt_digest(ids) for ids in ([], [1], [1, 2], [2, 1], [256], [0, 1])}
    assert len(digests) == 6
    assert prompt_digest([1, 2]) == prompt_digest((1, 2))
    assert len(prompt_digest([7])) == 16
