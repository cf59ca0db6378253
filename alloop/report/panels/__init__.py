"""The sections of the page, one file each; `alloop.report.page` lists them in their order."""
