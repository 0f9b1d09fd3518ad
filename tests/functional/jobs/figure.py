"""Pictures of a mouse: all slices at ED and ES with outlines, and a film of the beat."""

import mousecmr_data
from mousecmr_data.plotting import plot_montage, save_figure, write_movie

mouse = mousecmr_data.load(mice=["Mouse12"], source="phantom", size="small")["Mouse12"]
save_figure(plot_montage(mouse), "montage.png")
save_figure(plot_montage(mouse), "montage.svg")
write_movie(mouse, "movie.gif")
