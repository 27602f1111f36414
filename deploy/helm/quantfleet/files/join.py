"""Makes this pod a node of the fleet before its worker starts, where its volume holds no certificate that is good.

A restart needs no token. Where one is needed and not there yet, this waits, for the kubelet brings a Secret's new
content into a running pod: one that failed would be started ever later, and find its token expired.
"""

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from quantfleet.cli.main import main
from quantfleet_domain.errors import QuantfleetError
from quantfleet_wire.identity_files import load_credentials

LOOK_S = 2.0
STARTING = timedelta(minutes=2)  # what a worker may need until it can renew a certificate

node, state, token = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3], sys.argv[1])
try:
    certificate = x509.load_pem_x509_certificate(load_credentials(state / "credentials").certificate_pem)
    until = certificate.not_valid_after_utc
    if until > datetime.now(UTC) + STARTING:
        print(f"{node} has a certificate until {until:%Y-%m-%d %H:%M} UTC")
        sys.exit()
    print(f"the certificate of {node} ended at {until:%Y-%m-%d %H:%M} UTC")
except QuantfleetError as error:
    print(error.what)
if not token.exists():
    print(f"waiting for a token; an admin makes it: quantfleet token create --node {node}", flush=True)
while not token.exists():
    time.sleep(LOOK_S)
sys.exit(main(["worker", "join", token.read_text(), "--state", str(state)]))
