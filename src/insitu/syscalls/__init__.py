"""System calls as facts and text: names, arguments, what they point to, and how a line shows them."""
