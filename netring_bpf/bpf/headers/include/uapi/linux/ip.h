/* Empty on purpose: BCC includes it, the program needs nothing of it. */
