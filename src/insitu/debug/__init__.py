"""Why a program crashed, or corrupts its memory."""
