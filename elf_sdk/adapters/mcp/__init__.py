"""MCP servers as tools. The package `mcp` is imported when the first run of a team with MCP servers begins."""
