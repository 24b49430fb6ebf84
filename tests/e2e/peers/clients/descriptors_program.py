"""Prints the protos that the clients have compiled in, each as the hex digits of its descriptor."""

from google.protobuf import descriptor_pb2
from tei_client.stubs import tei_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

for file in (tei_pb2, service_pb2, model_config_pb2):
    message = descriptor_pb2.FileDescriptorProto()
    file.DESCRIPTOR.CopyToProto(message)
    print(message.SerializeToString().hex())
