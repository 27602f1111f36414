"""What tests of the chart share."""

import pytest
from tests.deploy.chart import Helm, unpack_helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(unpack_helm(tmp_path_factory.mktemp("helm")))
