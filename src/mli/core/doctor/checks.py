"""Everything that ``mli doctor`` looks at, on one page."""

from __future__ import annotations

from mli.core.doctor.bounds import check_isolation, check_memory, check_memory_ends
from mli.core.doctor.broker import (
    check_connection,
    check_login,
    check_name,
    check_port,
    check_subscription,
    check_tls,
)
from mli.core.doctor.clock import check_clock
from mli.core.doctor.finding import Check
from mli.core.doctor.folder import check_authority, check_certificate, check_permissions, check_settings
from mli.core.doctor.machine import check_disk, check_processor, check_system
from mli.core.doctor.models import check_backends, check_store
from mli.core.doctor.running import check_core, check_deployment, check_old_core, check_queue, check_wanted

CHECKS = (
    # The machine
    Check("system", check_system),
    Check("processor", check_processor),
    Check("disk", check_disk, limit_s=30.0),
    Check("clock", check_clock),
    # The device's folder
    Check("settings", check_settings),
    Check("permissions", check_permissions),
    Check("certificate", check_certificate, needs=("settings",)),
    Check("authority", check_authority, needs=("settings",)),
    # The broker
    Check("old core", check_old_core),
    Check("broker name", check_name, needs=("settings",)),
    Check("broker port", check_port, needs=("broker name",)),
    Check("broker TLS", check_tls, needs=("broker port",), limit_s=20.0),
    Check("login", check_login, needs=("broker TLS",), limit_s=25.0),
    Check("subscription", check_subscription, needs=("login",), limit_s=45.0),
    Check("connection", check_connection),
    # Models
    Check("model store", check_store, needs=("settings",), limit_s=45.0),
    Check("runtimes", check_backends, limit_s=45.0),
    # Workers
    Check("isolation", check_isolation, limit_s=30.0),
    Check("memory", check_memory),
    Check("out of memory", check_memory_ends),
    # The core
    Check("core", check_core),
    Check("deployment", check_deployment),
    Check("wanted", check_wanted, needs=("subscription",)),
    Check("queue", check_queue, limit_s=30.0),
)
