from blixt_api import localv1_pb2 as _localv1_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("node_name", "applied_revision")
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    APPLIED_REVISION_FIELD_NUMBER: _ClassVar[int]
    node_name: str
    applied_revision: int
    def __init__(self, node_name: _Optional[str] = ..., applied_revision: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("items", "revision")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_localv1_pb2.OpItem]
    revision: int
    def __init__(self, items: _Optional[_Iterable[_Union[_localv1_pb2.OpItem, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...
