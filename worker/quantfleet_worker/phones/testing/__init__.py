"""What stands in a phone's place in tests: it ships, so that owners can try their set-up without a phone."""

from quantfleet_worker.phones.testing.adb_device import AdbDevice
from quantfleet_worker.phones.testing.adb_server import AdbServer
from quantfleet_worker.phones.testing.ssh_server import SshServer

__all__ = ["AdbDevice", "AdbServer", "SshServer"]
