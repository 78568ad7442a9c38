"""The paper's user study as a tool: clips that tell nothing, a page for raters, and what their answers say."""
