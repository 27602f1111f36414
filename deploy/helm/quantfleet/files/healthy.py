"""Asks the coordinator of this pod for its health, as gRPC's health service says it. Exit code 0: it serves.

The kubelet's own gRPC probe speaks without TLS, and the coordinator has no port without it.
"""

import sys
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc

from quantfleet_domain.errors import QuantfleetError
from quantfleet_wire.identity_files import Credentials
from quantfleet_wire.tls import channel

TIMEOUT_S = 5.0

state, enrolment_address = Path(sys.argv[1]), sys.argv[2]
try:
    # The enrolment port answers who has no certificate, and runs in the same event loop as the other one.
    with channel(Credentials(enrolment_address, (state / "ca" / "ca.pem").read_bytes())) as opened:
        request = health_pb2.HealthCheckRequest()
        answer = health_pb2_grpc.HealthStub(opened).Check(request, timeout=TIMEOUT_S)
except (OSError, QuantfleetError) as error:
    sys.exit(f"not healthy: {error}")
if answer.status != health_pb2.HealthCheckResponse.SERVING:
    sys.exit(f"not healthy: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")
