"""Options that mean the same wherever they stand; those of an AWS account are in ``aws_account``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

StackName = Annotated[str | None, typer.Option(help="[default: mli-CORE_NAME]")]

CertsFolder = Annotated[
    Path | None, typer.Option("-o", "--output-dir", help="Folder of the files [default: certs/CORE_NAME]")
]
Rsa = Annotated[bool, typer.Option("--rsa", help="An RSA key of 2048 bits, for devices that know no EC.")]
IotAuthority = Annotated[
    Path | None,
    typer.Option("--ca", help="Authority of AWS IoT's certificates, PEM [default: Amazon's, from here]"),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="8883, or 443 where only that is let through.")]
Trust = Annotated[
    list[Path] | None, typer.Option(help="Public key (PEM) whose holder may deploy; may be said several times.")
]

BrokerCa = Annotated[str | None, typer.Option("--ca", help="CA certificates (PEM) that sign the broker's.")]
ClientCertificate = Annotated[str | None, typer.Option("--cert", help="Client certificate (PEM).")]
ClientKey = Annotated[str | None, typer.Option("--key", help="The client certificate's private key (PEM).")]
Username = Annotated[str | None, typer.Option(help="User name at the broker.")]
PasswordFile = Annotated[str | None, typer.Option(help="File whose first line is the password.")]
