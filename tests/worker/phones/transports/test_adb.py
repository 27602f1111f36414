from tests.contract.adb_contract import AdbContract


class TestPackagedAdb(AdbContract):
    pass
