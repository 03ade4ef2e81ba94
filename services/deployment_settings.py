"""The deployment's own settings: what it is, where it keeps things, and the bus that it is on."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from services.setting_kinds import (
    Count,
    Folder,
    Intake,
    LinkSeconds,
    MaybeCount,
    Positive,
    PublicUrl,
    TopicPrefix,
)


class DeploymentSettings(BaseModel):
    """The first of the variables, with their defaults and meanings."""

    env: Literal["development", "production"] = Field(
        "development", description="`production` refuses the mock parser."
    )
    mode: Literal["local", "real", "hybrid", "mock"] = Field(
        "local",
        description="Which parser serves: `local` (this machine), `real` (the one elsewhere), "
        "`hybrid` (the one elsewhere, else this machine) or `mock` (made up).",
    )
    remote_parser: Literal["llamaparse", "callback"] = Field(
        "llamaparse",
        description="The parser elsewhere: LlamaParse, or a self-hosted one (docs/self-hosted.md).",
    )
    tenant_modes: str = Field(
        "",
        description="Tenants that may choose a job's `mode`: `*` or a comma list; empty: none.",
    )
    data_dir: Folder = Field(Path(".parsewire"), description="Where tables and blobs are kept.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: coloured on a terminal, JSON lines elsewhere."
    )

    kafka_bootstrap_servers: str = Field(
        "",
        description="Brokers, `host:port,...`; empty: `up` starts its embedded broker.",
    )
    topic_prefix: TopicPrefix = Field(
        "parsewire.", description="Stands before every topic's and group's name."
    )
    topic_partitions: MaybeCount = Field(
        None, description="Partitions of every topic made; empty: each topic's own count."
    )
    topic_replication: Count = Field(1, description="Replicas of every topic made.")
    kafka_session_timeout_seconds: Positive = Field(
        10.0, description="After how long a silent consumer loses its partitions."
    )
    kafka_send_timeout_seconds: Positive = Field(
        10.0, description="How long a send may wait for the broker's acknowledgement."
    )
    kafka_bytes_in_flight: Count = Field(
        32 * 1024 * 1024, description="Bytes of records that may be under way at once."
    )
    stall_seconds: Positive = Field(
        60.0, description="Lag without progress for this long starts a consumer again."
    )

    intake: Intake = Field(
        "",
        description="Topics on which documents are submitted, each with the tenants that it may "
        "speak for: `documents.submitted:acme,ours:*`; a bar between several; empty: none.",
    )
    result_link_seconds: LinkSeconds = Field(
        0, description="How long the link in JobMoved opens a result without a key; 0: no link."
    )
    public_url: PublicUrl = Field(
        "", description="The gateway's public address for such links; empty: they are paths."
    )
