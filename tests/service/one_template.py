"""One template process for all servers of a test process: it takes 3 s of a processor to start, and a server that plans
once needs one.
"""

from app.compute.processes import Template


class KeptTemplate(Template):
    """Stays when its server stops. It ends with the test process, which is the other end of its socket."""

    def close(self) -> None:
        pass


class _Kept:
    template: KeptTemplate | None = None


async def one_template() -> KeptTemplate:
    """The test process's own, started by whoever asks first."""
    if _Kept.template is None or not _Kept.template.is_alive:
        _Kept.template = await KeptTemplate.started()
    return _Kept.template
