"""Environments of finance: portfolios, and the liquidation of a position.

portfolio.py                               portfolio choice, and its optima in closed form
prices.py, constant_weights.py             returns from files; an agent of constant weights
almgren_chriss.py, baselines.py            liquidation, and its optima in closed form
liquidation_game.py                        several sellers of one stock
"""
