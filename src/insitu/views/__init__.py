"""Views: pure functions of tables; terminal text, HTML, SVG, JSON."""
