"""Is the step of a loop that of a recurrent layer: its form, a trial of it on numbers, and the cells with which that is compared."""
