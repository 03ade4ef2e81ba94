"""The demo's story: what became of the samples, told step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.http import HistoryBody, JobBody
from schemas.money import dollars
from services.cli.demo_cloud import CloudStory, tell_cloud
from services.cli.job_verbs import print_history
from services.cli.tail import Seen
from services.cli.terminal import ERR, OUT, head, print_table

_LINES = 24


@dataclass(frozen=True, slots=True)
class Story:
    """What became of the samples; `first` is the job that is told of at length."""

    jobs: Mapping[Path, JobBody]
    first: JobBody
    markdown: str
    history: HistoryBody
    events: Sequence[Seen]
    topic_prefix: str
    cloud: CloudStory | None = None


def tell(story: Story) -> None:
    """Print the story."""
    first, name = story.first, story.first.name or "the first"
    head("Documents")
    print_table(
        ("file", "state", "pages", "parser", "cost", "ms", "note"),
        (
            (
                *(file.name, job.state, job.pages, job.parser),
                dollars(job.cost.billed_micro_usd),
                round((job.updated_at - job.created_at).total_seconds() * 1000),
                job.error.code if job.error else "; ".join(job.warnings),
            )
            for file, job in story.jobs.items()
        ),
    )
    billed = dollars(sum(job.cost.billed_micro_usd for job in story.jobs.values()))
    OUT.print(f"Cost: {billed}. The parsers of this machine are free.", highlight=False)
    lines = story.markdown.splitlines()
    head(f"{name}: {first.pages} pages, the first of {len(lines)} lines of its Markdown")
    for line in lines[:_LINES]:
        OUT.print(line, markup=False, highlight=False, soft_wrap=True)
    head(f"{name}: job {first.job_id}, {first.state}")
    print_history(story.history)
    head(f"What went over the topics {story.topic_prefix}* for it")
    print_table(
        ("topic", "partition", "offset", "type", "key"),
        ((seen.topic, seen.partition, seen.offset, seen.type, seen.key) for seen in story.events),
    )
    if not story.events:
        ERR.print("nothing was read from the topics in time")
    if story.cloud is not None:
        tell_cloud(story.cloud)
